//! Whole commands, run in this process through an injected `Env`; a few through the real binary.

mod binary;
mod configuration;
mod help;
mod run;
