//! The scanner of the text form: words, numbers and punctuation with their places.

use std::fmt;
use thiserror::Error;

/// A place in a text, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: expected {expected}, found {found}")]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What would have been right there.
    pub expected: String,
    /// What is there instead.
    pub found: String,
}

/// Result of a step of the parser.
pub type Parsed<T> = Result<T, ParseError>;

/// A position in a text.
#[derive(Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

impl<'a> Scanner<'a> {
    /// The start of a text.
    pub fn new(text: &'a str) -> Self {
        let mut scanner = Scanner { text, at: 0 };
        scanner.skip();
        scanner
    }

    /// Skips spaces and comments.
    fn skip(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with(';') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// Offset of the next token in the text.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The next word or number, or the empty word.
    fn peek(&self) -> &'a str {
        let rest = &self.text[self.at..];
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }

    /// An error at an earlier offset.
    pub fn error_at(&self, offset: usize, expected: &str) -> ParseError {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        let there = Scanner {
            at: offset,
            ..self.clone()
        };
        let found = match (there.peek(), self.text[offset..].chars().next()) {
            ("", None) => "the end".into(),
            ("", Some(c)) => format!("`{c}`"),
            (word, _) => format!("`{word}`"),
        };
        ParseError {
            place: Place {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
            },
            expected: expected.into(),
            found,
        }
    }

    /// An error at the next token.
    pub fn error<T>(&self, expected: &str) -> Parsed<T> {
        Err(self.error_at(self.at, expected))
    }

    /// Takes this punctuation mark if it comes next.
    pub fn accept(&mut self, mark: char) -> bool {
        let found = self.text[self.at..].starts_with(mark);
        if found {
            self.at += mark.len_utf8();
            self.skip();
        }
        found
    }

    /// Takes this keyword if it comes next.
    pub fn accept_word(&mut self, word: &str) -> bool {
        let found = self.peek() == word;
        if found {
            self.at += word.len();
            self.skip();
        }
        found
    }

    /// Checks that nothing follows.
    pub fn end(&self) -> Parsed<()> {
        if self.at == self.text.len() {
            return Ok(());
        }
        self.error("the end")
    }

    /// Takes this punctuation mark.
    pub fn mark(&mut self, mark: char) -> Parsed<()> {
        if self.accept(mark) {
            return Ok(());
        }
        self.error(&format!("`{mark}`"))
    }

    /// Takes this keyword.
    pub fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.accept_word(word) {
            return Ok(());
        }
        self.error(&format!("`{word}`"))
    }

    /// Takes the next word if `read` makes something of it.
    pub fn word<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Parsed<T> {
        let word = self.peek();
        let Some(value) = read(word) else {
            return self.error(expected);
        };
        self.at += word.len();
        self.skip();
        Ok(value)
    }

    /// Whether an id with this prefix comes next.
    pub fn at_id(&self, prefix: char) -> bool {
        id(self.peek(), prefix).is_some()
    }

    /// Takes an id: a prefix and a number.
    pub fn id(&mut self, prefix: char) -> Parsed<u32> {
        self.word(&format!("an id {prefix}0, {prefix}1, ..."), |w| {
            id(w, prefix)
        })
    }

    /// Whether a digit comes next.
    pub fn at_digit(&self) -> bool {
        self.peek().starts_with(|c: char| c.is_ascii_digit())
    }

    /// Takes a decimal number, with a sign and an exponent as floats print them, or `inf`.
    pub fn number<T: std::str::FromStr>(&mut self, expected: &str) -> Parsed<T> {
        let rest = &self.text[self.at..];
        let mut length = usize::from(rest.starts_with('-'));
        for c in rest[length..].chars() {
            let exponent = rest[..length].ends_with('e') && (c == '-' || c == '+');
            if !is_word(c) && !exponent {
                break;
            }
            length += c.len_utf8();
        }
        let Ok(value) = rest[..length].parse() else {
            return self.error(expected);
        };
        self.at += length;
        self.skip();
        Ok(value)
    }
}

/// The number of an id, written without leading zeros.
fn id(word: &str, prefix: char) -> Option<u32> {
    let digits = word.strip_prefix(prefix)?;
    let canonical = digits == "0" || digits.starts_with(|c: char| ('1'..='9').contains(&c));
    // The largest u32 stands for no entity.
    digits.parse().ok().filter(|&n| canonical && n < u32::MAX)
}
