//! The scenarios that come with the program, and what their stories claim.

mod files;
mod stories;
