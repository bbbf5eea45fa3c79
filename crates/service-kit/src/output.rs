//! The results of commands, on stdout.

use std::{fmt, io, io::Write as _};

/// The exit status of a process that SIGPIPE ends, as a shell shows it. Rust ignores that signal.
const BROKEN_PIPE: i32 = 141;

/// Prints a line of a command's result, like `println!`, which would panic if stdout cannot be written.
/// The process then ends: quietly if the reader of a pipe has closed it, as `head` does, and with an
/// error otherwise.
#[macro_export]
macro_rules! print_line {
    ($($text:tt)*) => {
        $crate::output::print_line(format_args!($($text)*))
    };
}

/// See [`print_line!`](crate::print_line!).
pub fn print_line(text: fmt::Arguments<'_>) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        crate::telemetry::flush();
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(BROKEN_PIPE);
        }
        crate::telemetry::print_to_stderr(&format!("error: cannot write to stdout: {error}\n"));
        std::process::exit(1);
    }
}
