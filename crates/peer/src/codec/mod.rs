//! Bytes to messages and back: framing, the messages of the BEPs, and what goes inside extended ones.

pub(crate) mod extended;
pub(crate) mod message;
pub(crate) mod reader;
