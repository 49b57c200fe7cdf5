//! Ctrl-C and its relatives, for commands that run until they are told to stop.

use std::io;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};

/// Which signal asked the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM, and SIGHUP: the terminal has gone.
    Terminate,
}

impl Interrupt {
    /// The end of the program by it, with the exit code by which a shell knows it. Everything was told before.
    pub(crate) fn into_failure(self) -> Failure {
        Failure::silent(match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        })
    }
}

/// Listens for signals from its making on.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    /// Takes the signals over from the system's default. Must be called inside the runtime.
    pub(crate) fn listen() -> Outcome<Self> {
        Self::try_listen()
            .map_err(|e| Failure::new(ExitCode::Other, e).about("cannot take signals"))
    }

    fn try_listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Interrupt,
            _ = self.terminate.recv() => Interrupt::Terminate,
            _ = self.hang_up.recv() => Interrupt::Terminate,
        }
    }

    /// Finishes `work`; a further signal ends the process at once, since that is what the user asks for.
    pub(crate) async fn finish<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            interrupt = self.next() => Err(interrupt),
        }
    }
}

/// A runtime for one command, with so many threads.
pub(crate) fn runtime(threads: usize) -> Outcome<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(ExitCode::Other, e).about("cannot start the runtime"))
}
