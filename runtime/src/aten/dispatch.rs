//! Calls of any operator through PyTorch's dispatcher (`torch_call_dispatcher`).
//!
//! Arguments travel on a stack of 64-bit words (`torch/csrc/stable/stableivalue_conversions.h`):
//! numbers, truth values and codes by their bits; tensors, lists and strings by owning handles; an
//! optional by a null or by a pointer to a word of its own. The callee takes over all of them.

use super::{Aten, Handle, Tensor};
use crate::Error;
use std::ffi::{CString, c_void};

/// The version of the conversion rules above (2.10, major and minor in the two high bytes).
const RULES: u64 = (2 << 56) | (10 << 48);

/// An argument, converted as far as it can be before the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// The bits of a number, a truth value or a code; 0 is also an optional that is absent.
    Word(u64),
    /// The next of the call's tensors.
    Tensor,
    /// A string.
    Str(String),
    /// A list.
    List(Vec<Argument>),
    /// An optional that is present.
    Present(Box<Argument>),
}

/// A result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the schema's types")]
pub enum Return {
    Tensor,
    TensorList,
}

/// An operator with the arguments of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// `aten::add`
    pub name: CString,
    /// `Tensor`; empty for the default overload.
    pub overload: CString,
    /// One for each of the schema's.
    pub arguments: Vec<Argument>,
    /// One for each of the schema's.
    pub returns: Vec<Return>,
}

impl Operator {
    /// Calls the operator with these tensors, which stand for its `Argument::Tensor`s in order. The
    /// tensors among its results, those of lists one by one; undefined ones are left out.
    pub fn call(&self, aten: &'static Aten, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let name = || self.name.to_string_lossy().into_owned();
        let mut stack = Stack {
            aten,
            owned: Vec::new(),
        };
        let mut words = Vec::with_capacity(self.arguments.len().max(self.returns.len()));
        let mut tensors = tensors.into_iter();
        for argument in &self.arguments {
            words.push(stack.word(argument, &mut tensors)?);
        }
        words.resize(words.capacity(), 0);
        let (op, overload) = (self.name.as_ptr(), self.overload.as_ptr());
        stack.owned.clear();
        // SAFETY: the names end in 0, and the stack has room for arguments and results.
        let status =
            unsafe { (aten.torch_call_dispatcher)(op, overload, words.as_mut_ptr(), RULES) };
        aten.check(&name(), status)?;
        let mut results = Results {
            aten,
            tensors: Vec::with_capacity(self.returns.len()),
        };
        for (kind, &word) in self.returns.iter().zip(&words) {
            match kind {
                Return::Tensor => results.tensor(word)?,
                Return::TensorList => results.list(word)?,
            }
        }
        Ok(results.tensors)
    }
}

/// What the stack under construction owns; the callee takes it over, an error frees it.
struct Stack {
    aten: &'static Aten,
    /// One by one: deleting a list or an optional leaves alone what it holds.
    owned: Vec<Owned>,
}

#[derive(Clone, Copy)]
enum Owned {
    Tensor(Handle),
    List(Handle),
    Str(Handle),
    Optional(*mut u64),
}

impl Drop for Stack {
    fn drop(&mut self) {
        for owned in &self.owned {
            // SAFETY: each was made by `word` and not given away.
            unsafe {
                match *owned {
                    Owned::Tensor(h) => drop(Tensor::from_handle(self.aten, h)),
                    Owned::List(h) => _ = (self.aten.torch_delete_list)(h),
                    Owned::Str(h) => _ = (self.aten.torch_delete_string)(h),
                    Owned::Optional(p) => self.aten.delete_word(p),
                }
            }
        }
    }
}

impl Stack {
    /// The word of one argument.
    fn word(
        &mut self,
        argument: &Argument,
        tensors: &mut impl Iterator<Item = Tensor>,
    ) -> Result<u64, Error> {
        let aten = self.aten;
        match argument {
            Argument::Word(word) => Ok(*word),
            Argument::Tensor => {
                let missing = || Error::Plan("a call without one of its tensors".into());
                let handle = tensors.next().ok_or_else(missing)?.into_handle();
                self.owned.push(Owned::Tensor(handle));
                Ok(handle as u64)
            }
            Argument::Str(text) => {
                let mut handle = std::ptr::null_mut();
                // SAFETY: the text is copied.
                let status = unsafe {
                    (aten.torch_new_string_handle)(text.as_ptr().cast(), text.len(), &mut handle)
                };
                aten.check("a string", status)?;
                self.owned.push(Owned::Str(handle));
                Ok(handle as u64)
            }
            Argument::List(items) => {
                let mut list = std::ptr::null_mut();
                // SAFETY: writes the handle.
                let status = unsafe { (aten.torch_new_list_reserve_size)(items.len(), &mut list) };
                aten.check("a list", status)?;
                self.owned.push(Owned::List(list));
                for item in items {
                    let word = self.word(item, tensors)?;
                    // SAFETY: the list is ours.
                    let status = unsafe { (aten.torch_list_push_back)(list, word) };
                    aten.check("a list", status)?;
                }
                Ok(list as u64)
            }
            Argument::Present(inner) => {
                let word = self.word(inner, tensors)?;
                let place = aten.new_word(word)?;
                self.owned.push(Owned::Optional(place));
                Ok(place as u64)
            }
        }
    }
}

/// Results taken off the stack.
struct Results {
    aten: &'static Aten,
    tensors: Vec<Tensor>,
}

impl Results {
    fn tensor(&mut self, word: u64) -> Result<(), Error> {
        // SAFETY: by the operator's schema the word is a handle, now ours.
        let tensor = unsafe { Tensor::from_handle(self.aten, word as *mut c_void) };
        if tensor.is_defined()? {
            self.tensors.push(tensor);
        }
        Ok(())
    }

    fn list(&mut self, word: u64) -> Result<(), Error> {
        let (aten, list) = (self.aten, word as *mut c_void);
        let mut length = 0;
        // SAFETY: by the schema the word is a list of tensors, now ours; each is taken once.
        unsafe {
            aten.check("a list", (aten.torch_list_size)(list, &mut length))?;
            for n in 0..length {
                let mut item = 0;
                aten.check("a list", (aten.torch_list_get_item)(list, n, &mut item))?;
                self.tensor(item)?;
            }
            aten.check("a list", (aten.torch_delete_list)(list))
        }
    }
}
