//! Bencode (BEP 3, "bencoding"): a reader that copies nothing and has limits, and a canonical
//! writer.
//!
//! The reader makes one pass over the input, without recursion, into a flat table of tokens;
//! [`Value`] is a view into that table and the input. What the keys mean is for others to know.
//!
//! ```
//! use riverrun_bencode::{Document, Limits, Writer};
//!
//! let document = Document::parse(b"d3:agei7e4:name4:Alphe", Limits::MESSAGE)?;
//! let dict = document.root().as_dict().expect("a dictionary");
//! assert_eq!(dict.get(b"age").and_then(|age| age.as_int()), Some(7));
//!
//! let mut writer = Writer::new();
//! writer.dict().key(b"age").int(7).key(b"name").bytes(b"Alph").end();
//! assert_eq!(writer.finish(), document.source());
//! # Ok::<(), riverrun_bencode::ParseError>(())
//! ```

mod document;
mod error;
mod parse;
mod value;
mod writer;

pub use document::{Document, Limits};
pub use error::{ParseError, SyntaxError};
pub use value::{Dict, List, Value, Values};
pub use writer::Writer;
