//! The rules of the house as tests: arrows between crates, licences, length of functions, links, formatting.
//!
//! A rule that a lint or a type can hold is there; what is left is here, and nothing lives in CI alone.

mod arrows;
mod documents;
mod lengths;
mod licences;
mod lints;
mod sources;
mod workspace;
