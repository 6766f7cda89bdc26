//! Values as Python prints them: `str`, `repr`, and `json.dumps` with its arguments.

use minijinja::value::{Kwargs, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

type Printed<T> = std::result::Result<T, Error>;

/// `str(value)`.
pub fn string(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_string(),
        None => repr(value),
    }
}

/// `repr(value)`; nothing for what is undefined.
fn repr(value: &Value) -> String {
    let items = || value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect::<Vec<_>>().join(", ");
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Number => number(value).unwrap_or_else(|| value.to_string()),
        ValueKind::Seq if value.downcast_object_ref::<Tuple>().is_some() => match value.len() {
            Some(1) => format!("({},)", items()),
            _ => format!("({})", items()),
        },
        ValueKind::Seq => format!("[{}]", items()),
        ValueKind::Map if value.as_object().is_some_and(|object| object.type_name().contains("Map")) => {
            let keys = value.try_iter().into_iter().flatten();
            let pair = |key: Value| format!("{}: {}", repr(&key), repr(&value.get_item(&key).unwrap_or_default()));
            format!("{{{}}}", keys.map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// A number as Python has it; none for one that is no float.
fn number(value: &Value) -> Option<String> {
    if value.is_integer() {
        return None;
    }
    let float = f64::try_from(value.clone()).ok()?;
    Some(match float {
        _ if float.is_nan() => "nan".into(),
        _ if float.is_infinite() => if float < 0.0 { "-inf" } else { "inf" }.into(),
        _ => {
            // The shortest digits that come back, with an exponent from 1e16 on and below 1e-4.
            let scientific = format!("{float:e}");
            let (digits, exponent) = scientific.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            match exponent {
                -4..16 => format!("{float:?}"),
                _ => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
            }
        }
    })
}

/// A string in quotes: single ones, unless it has those and no double ones.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut made = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            '\\' => made.push_str("\\\\"),
            _ if c == quote => made.extend(['\\', c]),
            _ if is_printable(c) => made.push(c),
            _ => made.push_str(&match c as u32 {
                code @ 0..0x100 => format!("\\x{code:02x}"),
                code @ 0x100..0x10000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    made.push(quote);
    made
}

/// Whether Python shows a character as it is: no control or format character, and of blanks the plain one.
fn is_printable(c: char) -> bool {
    let format = matches!(c as u32, 0xad | 0x600..=0x605 | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e
        | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff | 0xe0001..=0xe007f | 0xf0000..=0x10ffff);
    c == ' ' || !(c.is_control() || c.is_whitespace() || format)
}

/// `json.dumps` with the arguments that transformers' `tojson` takes.
pub struct Dumps {
    ascii: bool,
    indent: Option<String>,
    /// Separators between items, and between key and value.
    separators: (String, String),
    sorted: bool,
}

impl Dumps {
    /// Options from the arguments of `tojson`: `ensure_ascii`, `indent`, `separators`, `sort_keys`, by place or by name.
    pub fn new(given: &[Value], named: &Kwargs) -> Printed<Self> {
        if given.len() > 4 {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        let argument = |place: usize, name: &str| -> Printed<Option<Value>> {
            let value =
                given.get(place).cloned().map_or_else(|| named.get::<Option<Value>>(name), |value| Ok(Some(value)));
            Ok(value?.filter(|value| !value.is_none() && !value.is_undefined()))
        };
        let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
        let indent = argument(1, "indent")?.map(|indent| match indent.as_str() {
            Some(blanks) => Printed::Ok(blanks.to_string()),
            None if indent.is_integer() => Ok(" ".repeat(i64::try_from(indent)?.max(0) as usize)),
            None => Ok(" ".repeat(usize::from(bool::try_from(indent)?))),
        });
        let indent: Option<String> = indent.transpose()?;
        let separators = match argument(2, "separators")? {
            None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
            Some(pair) => {
                let parts: Vec<String> = pair.try_iter()?.map(|part| string(&part)).collect();
                let [item, key] = <[String; 2]>::try_from(parts).map_err(|_| {
                    Error::new(ErrorKind::InvalidOperation, format!("separators: expected two, got {pair}"))
                })?;
                (item, key)
            }
        };
        Ok(Self {
            ascii: is_true(argument(0, "ensure_ascii")?),
            indent,
            separators,
            sorted: is_true(argument(3, "sort_keys")?),
        })
    }

    /// The value as JSON.
    pub fn text(&self, value: &Value) -> Printed<String> {
        let mut made = String::new();
        self.write(value, 0, &mut made)?;
        Ok(made)
    }

    fn write(&self, value: &Value, depth: usize, to: &mut String) -> Printed<()> {
        match value.kind() {
            ValueKind::None => to.push_str("null"),
            ValueKind::Bool => to.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => to.push_str(&json_number(value)),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), to),
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    pairs.push((json_key(&key)?, value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                let pair = |(key, value): &(String, Value), to: &mut String| {
                    self.quote(key, to);
                    to.push_str(&self.separators.1);
                    self.write(value, depth + 1, to)
                };
                self.list(('{', '}'), &pairs, depth, to, pair)?;
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(('[', ']'), &items, depth, to, |item, to| self.write(item, depth + 1, to))?;
            }
            other => {
                let message = format!("tojson: expected a value that JSON has, got one that is {other}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn list<T>(
        &self,
        brackets: (char, char),
        items: &[T],
        depth: usize,
        to: &mut String,
        write: impl Fn(&T, &mut String) -> Printed<()>,
    ) -> Printed<()> {
        let line = |depth: usize, to: &mut String| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !items.is_empty()) {
                to.push('\n');
                to.push_str(&indent.repeat(depth));
            }
        };
        to.push(brackets.0);
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                to.push_str(&self.separators.0);
            }
            line(depth + 1, to);
            write(item, to)?;
        }
        line(depth, to);
        to.push(brackets.1);
        Ok(())
    }

    fn quote(&self, text: &str, to: &mut String) {
        to.push('"');
        for c in text.chars() {
            match c {
                '"' => to.push_str("\\\""),
                '\\' => to.push_str("\\\\"),
                '\n' => to.push_str("\\n"),
                '\r' => to.push_str("\\r"),
                '\t' => to.push_str("\\t"),
                '\u{8}' => to.push_str("\\b"),
                '\u{c}' => to.push_str("\\f"),
                _ if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    let mut units = [0; 2];
                    c.encode_utf16(&mut units).iter().for_each(|unit| to.push_str(&format!("\\u{unit:04x}")));
                }
                _ => to.push(c),
            }
        }
        to.push('"');
    }
}

fn json_number(value: &Value) -> String {
    match number(value).as_deref() {
        None => value.to_string(),
        Some("nan") => "NaN".into(),
        Some("inf") => "Infinity".into(),
        Some("-inf") => "-Infinity".into(),
        Some(float) => float.into(),
    }
}

/// A key as Python makes a string of it.
fn json_key(key: &Value) -> Printed<String> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_string(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => json_number(key),
        other => {
            let message =
                format!("tojson: expected keys that are strings, numbers, booleans or none, got one that is {other}");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    })
}
