//! Pickles, read as data: nothing is imported, called or executed.
//!
//! The machine knows the opcodes that protocols 2 to 4 write, and keeps calls and instances as
//! the record of what was to be called. Values live in one list and refer to each other by
//! place, so nesting costs no stack and shared values are never expanded.

mod machine;
mod opcodes;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use machine::Machine;

/// Most values, and most memo entries. HyenaDNA's largest file makes a few thousand.
const MAX_VALUES: usize = 1 << 22;

/// The place of a value.
pub type Id = u32;

/// A value; texts and bytes are slices of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A text.
    Text(&'a str),
    /// A tuple or list.
    List(Vec<Id>),
    /// A dictionary, `collections.OrderedDict` included, in the order of insertion.
    Dict(Vec<(Id, Id)>),
    /// A class or function by module and name.
    Global(&'a str, &'a str),
    /// What was to be called, and its tuple of arguments.
    Call(Id, Id),
    /// An object that the pickler stored elsewhere.
    Persistent(Id),
    /// Anything else.
    Other,
}

/// A whole pickle.
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle. Memory is at most some 100 bytes for each of its bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut machine = Machine {
            bytes,
            ..Machine::default()
        };
        loop {
            let at = machine.at;
            match machine.run_opcode() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self {
                        values: machine.values,
                        root,
                    });
                }
                Err(what) => return Err(Error::model(what).place(format!("pickle byte {at}"))),
            }
        }
    }

    /// The value that the pickle holds.
    pub fn root(&self) -> &Value<'a> {
        self.at(self.root)
    }

    /// The value at a place that another value names.
    pub fn at(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    /// The value of a text key of a dictionary.
    pub fn get(&self, dict: &Value<'a>, key: &str) -> Option<&Value<'a>> {
        let Value::Dict(items) = dict else {
            return None;
        };
        let item = items
            .iter()
            .rev()
            .find(|(k, _)| self.at(*k) == &Value::Text(key));
        item.map(|(_, value)| self.at(*value))
    }
}
