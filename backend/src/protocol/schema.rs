//! Operator schemas in PyTorch's notation:
//! `aten::index.Tensor(Tensor self, Tensor?[] indices) -> Tensor`.

use crate::error::Error;

/// A type of the schema language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `Tensor`, `int`, `SymInt`, `Scalar`, `ScalarType` ...
    Base(String),
    /// `T?`
    Optional(Box<Type>),
    /// `T[]` and `T[n]`; of the second a single element may stand for all.
    List(Box<Type>, Option<usize>),
}

/// An operator's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// `aten::index`
    pub name: String,
    /// `Tensor`; empty for the default overload.
    pub overload: String,
    /// Types of the arguments.
    pub arguments: Vec<Type>,
    /// Types of the results.
    pub returns: Vec<Type>,
}

impl Schema {
    /// Reads a schema.
    pub fn parse(text: &str) -> Result<Schema, Error> {
        let mut cursor = Cursor { rest: text };
        cursor
            .schema()
            .ok_or_else(|| Error::Invalid(format!("schema {text:?}, at {:?}", cursor.rest)))
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Up to the first of these characters, which stays.
    fn until(&mut self, ends: &[char]) -> Option<&'a str> {
        let (before, rest) = self.rest.split_at(self.rest.find(ends)?);
        self.rest = rest;
        Some(before)
    }

    fn schema(&mut self) -> Option<Schema> {
        let full = self.until(&['('])?;
        let (name, overload) = full.split_once('.').unwrap_or((full, ""));
        self.eat("(");
        let mut arguments = Vec::new();
        while !self.eat(")") {
            if !self.eat("*, ") {
                arguments.push(self.ty()?);
                self.name_and_default()?;
            }
        }
        self.eat(" -> ").then_some(())?;
        let mut returns = Vec::new();
        if self.eat("()") {
        } else if self.eat("(") {
            while !self.eat(")") {
                returns.push(self.ty()?);
                self.name_and_default()?;
            }
        } else {
            returns.push(self.ty()?);
        }
        self.rest.is_empty().then(|| Schema {
            name: name.into(),
            overload: overload.into(),
            arguments,
            returns,
        })
    }

    /// A type. Marks of views and of what is written (`(a)`, `(a!)`) are skipped.
    fn ty(&mut self) -> Option<Type> {
        let end = self
            .rest
            .find(|c: char| !c.is_alphanumeric() && !"_.".contains(c));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        let mut ty = Type::Base(name.into());
        loop {
            if self.eat("(") {
                self.until(&[')'])?;
                self.eat(")");
            } else if self.eat("?") {
                ty = Type::Optional(Box::new(ty));
            } else if self.eat("[") {
                let length = self.until(&[']'])?;
                self.eat("]");
                ty = Type::List(Box::new(ty), length.parse().ok());
            } else {
                return (!name.is_empty()).then_some(ty);
            }
        }
    }

    /// Skips ` name=default, `, or what of it is there.
    fn name_and_default(&mut self) -> Option<()> {
        self.until(&['=', ',', ')'])?;
        if self.eat("=") {
            let quote = self.rest.chars().next()?;
            if quote == '"' || quote == '\'' {
                self.rest = &self.rest[1..];
                self.until(&[quote])?;
                self.rest = &self.rest[1..];
            }
            if self.rest.starts_with('[') {
                self.until(&[']'])?;
            }
            self.until(&[',', ')'])?;
        }
        self.eat(", ");
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str) -> Type {
        Type::Base(name.into())
    }

    #[test]
    fn reads_every_part() {
        let text = "aten::some_op.out(Tensor(a -> *) self, SymInt[2] size, Tensor?[] indices, \
                    int[]? dim=[0, 1], *, str? mode=\"a, b)\", Scalar alpha=1, float eps=1e-05, \
                    bool[3] mask, Tensor(b!) out) -> (Tensor(a)[], Tensor(b!) y, int)";
        let schema = Schema::parse(text).unwrap();
        let list = |t: &str, n| Type::List(Box::new(base(t)), n);
        let optional = |t| Type::Optional(Box::new(t));
        assert_eq!(
            schema,
            Schema {
                name: "aten::some_op".into(),
                overload: "out".into(),
                arguments: vec![
                    base("Tensor"),
                    list("SymInt", Some(2)),
                    Type::List(Box::new(optional(base("Tensor"))), None),
                    optional(list("int", None)),
                    optional(base("str")),
                    base("Scalar"),
                    base("float"),
                    list("bool", Some(3)),
                    base("Tensor"),
                ],
                returns: vec![list("Tensor", None), base("Tensor"), base("int")],
            }
        );
    }

    #[test]
    fn short_ones() {
        let schema = Schema::parse("aten::rand() -> ()").unwrap();
        assert_eq!((schema.overload.as_str(), schema.returns.len()), ("", 0));
        for bad in [
            "",
            "aten::x",
            "aten::x(Tensor",
            "aten::x(Tensor a) Tensor",
            "x(int a) -> T y",
        ] {
            assert!(Schema::parse(bad).is_err(), "{bad}");
        }
    }
}
