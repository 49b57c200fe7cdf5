//! Ctrl-C and its like, for commands that run until they are told to stop.

use std::io;

use tokio::runtime::Runtime;

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// What told the command to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// Waits for one of them. From now on the process no longer ends by itself.
    pub(crate) async fn wait() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupt = tokio::signal::ctrl_c() => interrupt.map(|()| Self::Interrupt),
                _ = terminate.recv() => Ok(Self::Terminate),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map(|()| Self::Interrupt)
    }

    /// The exit code by which a shell knows it. Everything was told to the user before.
    pub(crate) fn into_failure(self) -> Failure {
        Failure::silent(match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        })
    }
}

/// A runtime for one command.
pub(crate) fn runtime() -> Outcome<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .enable_all()
        .build()
        .map_err(|e| Failure::new(ExitCode::Other, e).about("cannot start the runtime"))
}
