//! What lies between a connection and its transport: the exchange of keys, then the ciphers.

use riverrun_base::InfoHash;

use super::{
    Chance, Dialing, Encryption, EncryptionPolicy, Exchange, Intent, Listening, Rc4, Step,
};
use crate::config::PeerConfig;
use crate::error::PeerMisbehaved;
use crate::event::PeerEvent;
use crate::transmit::SendBatch;

/// What lies between a connection and its transport.
#[derive(Debug, Default)]
pub(crate) struct Envelope {
    /// While keys are exchanged.
    exchange: Option<Exchange>,
    /// To be sent before everything else, and as it is.
    preamble: Vec<u8>,
    inbound: Inbound,
    outbound: Option<Box<Rc4>>,
    encryption: Encryption,
}

/// What has come of bytes.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// How many of them were the exchange's own.
    pub(crate) consumed: usize,
    /// Bytes that belong before what follows: the start of a stream in the clear.
    pub(crate) replay: Vec<u8>,
    pub(crate) event: Option<PeerEvent>,
}

impl Envelope {
    /// A connection in the clear.
    pub(crate) fn open() -> Self {
        Self::default()
    }

    /// A connection that we dial encrypted.
    pub(crate) fn dial(intent: Intent, config: &PeerConfig, seed: u64) -> Self {
        let mut preamble = Vec::new();
        let chance = Chance::draw(&config.entropy, seed);
        let exchange = Exchange::Dialing(Dialing::begin(intent, chance, &mut preamble));
        Self {
            exchange: Some(exchange),
            preamble,
            ..Self::default()
        }
    }

    /// A connection that was dialled, in whatever manner.
    pub(crate) fn listen(policy: EncryptionPolicy) -> Self {
        Self {
            exchange: (policy != EncryptionPolicy::Off)
                .then(|| Exchange::Listening(Listening::begin(policy))),
            ..Self::default()
        }
    }

    /// How much is encrypted, as far as is known.
    pub(crate) const fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// Whether keys are being exchanged: nothing else can be sent or received.
    pub(crate) const fn is_busy(&self) -> bool {
        self.exchange.is_some()
    }

    /// Whether bytes can be used now.
    pub(crate) const fn wants_read(&self) -> bool {
        match &self.exchange {
            Some(Exchange::Listening(listening)) => listening.wants_read(),
            _ => true,
        }
    }

    /// How many bytes wait to be sent.
    pub(crate) const fn len_bytes(&self) -> usize {
        self.preamble.len()
    }

    /// Takes what belongs to the exchange, and decrypts the rest in place, but for what was left over the last time and
    /// stands at the front again.
    pub(crate) fn receive(&mut self, bytes: &mut [u8]) -> Result<Opened, PeerMisbehaved> {
        let mut opened = Opened::default();
        if let Some(exchange) = self.exchange.take() {
            let mut input = &*bytes;
            let step = exchange.receive(&mut input, &mut self.preamble)?;
            opened.consumed = bytes.len() - input.len();
            self.proceed(step, &mut opened);
        }
        if self.exchange.is_none() {
            self.inbound.decrypt(&mut bytes[opened.consumed..]);
        }
        Ok(opened)
    }

    fn proceed(&mut self, step: Step, opened: &mut Opened) {
        match step {
            Step::More(exchange) => self.exchange = Some(exchange),
            Step::KeyWork(exchange) => {
                self.exchange = Some(exchange);
                opened.event = Some(PeerEvent::KeyExchange);
            }
            Step::Named(exchange, name) => {
                self.exchange = Some(exchange);
                opened.event = Some(PeerEvent::Veiled(name));
            }
            Step::Plain(seen) => opened.replay = seen,
            Step::Done(sealed) => {
                self.inbound = sealed.inbound;
                self.outbound = sealed.outbound;
                self.encryption = sealed.encryption;
            }
        }
    }

    /// Of bytes that were decrypted so many were used; the rest will come again.
    pub(crate) fn used(&mut self, len: usize) {
        self.inbound.decrypted = self.inbound.decrypted.saturating_sub(len);
    }

    /// The peer's key is worth our arithmetic.
    pub(crate) fn admit(&mut self, config: &PeerConfig, seed: u64) -> Result<(), PeerMisbehaved> {
        if let Some(Exchange::Listening(listening)) = self.exchange.take() {
            let chance = Chance::draw(&config.entropy, seed);
            let next = listening.admit(chance, &mut self.preamble)?;
            self.exchange = Some(Exchange::Listening(next));
        }
        Ok(())
    }

    /// The peer means this torrent.
    pub(crate) fn unveil(&mut self, info_hash: InfoHash) {
        if let Some(Exchange::Listening(listening)) = self.exchange.take() {
            self.exchange = Some(Exchange::Listening(listening.unveil(info_hash)));
        }
    }

    /// Moves what comes before everything else; whether that is all gone, and the rest may follow.
    pub(crate) fn drain(&mut self, batch: &mut SendBatch) -> bool {
        let len = batch.room().min(self.preamble.len());
        if len > 0 {
            batch.write(|scratch| scratch.extend(self.preamble.drain(..len)));
        }
        self.preamble.is_empty() && self.exchange.is_none()
    }

    /// Encrypts what was appended to a batch since a mark.
    pub(crate) fn seal(&mut self, batch: &mut SendBatch, mark: crate::transmit::Mark) {
        if let Some(cipher) = &mut self.outbound {
            batch.rewrite(mark, |bytes| cipher.apply(bytes));
        }
    }
}

/// The cipher of what comes in.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    cipher: Option<Box<Rc4>>,
    /// How many bytes are still encrypted; `None` is all.
    left: Option<u64>,
    /// How many bytes at the front of the input are decrypted already.
    decrypted: usize,
}

impl Inbound {
    pub(super) fn new(cipher: Box<Rc4>, left: Option<u64>) -> Self {
        Self {
            cipher: (left != Some(0)).then_some(cipher),
            left,
            decrypted: 0,
        }
    }

    fn decrypt(&mut self, bytes: &mut [u8]) {
        let known = self.decrypted.min(bytes.len());
        self.decrypted = self.decrypted.max(bytes.len());
        let fresh = &mut bytes[known..];
        let Some(cipher) = &mut self.cipher else {
            return;
        };
        match &mut self.left {
            None => cipher.apply(fresh),
            Some(left) => {
                let len = fresh
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                cipher.apply(&mut fresh[..len]);
                *left -= len as u64;
                if *left == 0 {
                    self.cipher = None;
                }
            }
        }
    }
}
