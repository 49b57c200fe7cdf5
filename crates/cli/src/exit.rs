//! How a run ended, as the number that a script sees.

use std::fmt::Write;

macro_rules! exit_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $meaning:literal;)*) => {
        /// The exit codes of the program. The numbers are a promise: none changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ExitCode {
            $($(#[doc = $doc])+ $name = $number,)*
        }

        impl ExitCode {
            /// All of them, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it means, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)*
                }
            }
        }
    };
}

exit_codes! {
    /// Done.
    Ok = 0, "done";
    /// Anything that has no code of its own.
    Other = 1, "any other failure";
    /// The command line makes no sense.
    Usage = 2, "wrong usage";
    /// The configuration file, a profile or a variable makes no sense.
    Config = 3, "bad configuration file, profile or RIVERRUN_* variable";
    /// A torrent file or a magnet link that is none.
    BadTorrent = 4, "not a valid torrent file or magnet link";
    /// A file is not there, or nobody had the metadata of a magnet link.
    NotFound = 5, "not found, or no metadata before the timeout";
    /// Data that is not what the torrent says.
    Mismatch = 6, "data does not match the torrent";
    /// Stopped before the download was complete.
    Incomplete = 7, "incomplete: a timeout or an interrupt after some progress";
    /// A tracker or the network failed.
    Network = 8, "network or tracker failure";
    /// Disk full, or reading or writing failed.
    Io = 9, "disk full, or an input/output error";
    /// The daemon is not reachable or refuses.
    Daemon = 10, "daemon unreachable or access denied";
    /// Something is in the way, and it is not overwritten.
    Exists = 11, "the target exists, or belongs to something else";
    /// Ended by SIGINT.
    Interrupted = 130, "interrupted (SIGINT, Ctrl-C)";
    /// Ended by SIGTERM.
    Terminated = 143, "terminated (SIGTERM)";
}

impl ExitCode {
    /// The number that the shell sees.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// All codes with their meanings, one a line: for the help and the manual.
    pub(crate) fn table() -> String {
        Self::ALL.iter().fold(String::new(), |mut table, code| {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {:>3}  {}", code.number(), code.meaning());
            table
        })
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_a_promise() {
        let numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 130, 143]);
        assert_eq!(ExitCode::Mismatch.number(), 6);
        assert_eq!(ExitCode::Exists.number(), 11);
    }

    #[test]
    fn the_table_names_each_code_once() {
        let table = ExitCode::table();
        assert_eq!(table.lines().count(), ExitCode::ALL.len());
        assert!(
            table.contains("  6  data does not match the torrent\n"),
            "{table}"
        );
    }
}
