//! Values of a GGUF file's metadata.

/// A value of the metadata; integers and floats of every width are one kind each.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// An integer of any width, signed or not.
    Integer(i128),
    /// A float of 32 or 64 bits.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A string.
    Text(String),
    /// Values of one kind.
    List(Vec<MetaValue>),
}

impl MetaValue {
    /// Name of the value's kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a bool",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
        }
    }
}
