//! The helper's command line: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    outfall::helper::command::main(std::env::args_os())
}
