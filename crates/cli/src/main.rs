//! The `riverrun` program: hands the process's surroundings to the library and its exit code back.

use std::process::ExitCode;

use riverrun_cli::{Env, run};

fn main() -> ExitCode {
    run(Env::of_process()).into()
}
