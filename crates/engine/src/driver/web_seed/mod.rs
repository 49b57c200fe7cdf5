//! A web seed (BEP 19): the task that turns what is asked of it into requests over HTTP, and their bodies into blocks.
//!
//! To the decisions it is a connection like those to peers: it hears [`PeerCommand`]s and reports [`PeerEvent`]s. Blocks
//! that lie together are asked for at once, as one range of a file, and more is read of a body only when there is memory
//! and credit for the next block; the server is held back by its own connection meanwhile. Whom a URL may reach is
//! decided where it is for trackers ([`Web`]).

mod answer;
mod body;
mod locate;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use riverrun_base::{Bitfield, BlockMut, BlockSpan, FileIndex, PieceIndex};
use riverrun_metainfo::{File, FileSlice, Info, Layout};
use riverrun_peer::{CloseReason, PeerCommand, PeerEvent, WebSeedFailure};
use riverrun_swarm::{ConnKey, WebSeed};
use tokio::sync::mpsc;

use self::answer::{Part, Refusal};
use self::body::Body;
use super::conn::ConnContext;
use super::routes::ConnMessage;
use super::shard::ShardMessage;
use super::socket::Sockets;
use super::web::Author;

/// Bodies that end early, or bring less than was asked for, in a row before the server is held to fail.
const SHORT_MAX: u32 = 3;
/// What is skipped of a body rather than asked anew: about what a round trip to a far server is worth.
const SKIP_MAX: u64 = 256 << 10;

/// Why the task, or what it does at the moment, ends.
enum End {
    /// All of it.
    Close(CloseReason),
    /// This file cannot be had here.
    Lacks(FileIndex, String),
    /// All of this file comes, and what is wanted of it lies far behind its beginning.
    Whole(FileIndex, Body),
    /// What was to be read is not wanted any more.
    Unwanted,
}

impl From<CloseReason> for End {
    fn from(why: CloseReason) -> Self {
        Self::Close(why)
    }
}

/// What is told to the decisions when a web seed fails.
fn failed(message: impl Into<String>) -> CloseReason {
    CloseReason::WebSeed(WebSeedFailure::Failed {
        message: message.into(),
        retry_after: None,
    })
}

/// The task.
pub(crate) struct WebSeedTask {
    context: ConnContext,
    sockets: Sockets,
    conn: ConnKey,
    seed: WebSeed,
    info: Arc<Info>,
    inbox: mpsc::Receiver<ConnMessage>,
    /// What is asked for, in order.
    wanted: VecDeque<BlockSpan>,
    /// How many bytes may come before more is granted; `None` is without limit.
    credit: Option<i64>,
    /// The pieces that it has, as far as is known.
    have: Bitfield,
    /// What is being read.
    body: Option<Body>,
    /// All of a file is read, whether it is wanted or not.
    takes_all: bool,
    short: u32,
}

impl WebSeedTask {
    pub(crate) fn new(
        context: ConnContext,
        sockets: Sockets,
        conn: ConnKey,
        (seed, info): (WebSeed, Arc<Info>),
        inbox: mpsc::Receiver<ConnMessage>,
    ) -> Self {
        Self {
            have: Bitfield::full(info.layout().piece_count()),
            context,
            sockets,
            conn,
            seed,
            info,
            inbox,
            wanted: VecDeque::new(),
            credit: None,
            body: None,
            takes_all: false,
            short: 0,
        }
    }

    /// Runs until the web seed is needed no more, or fails, and reports that.
    pub(crate) async fn run(mut self) {
        let why = self.serve().await;
        tracing::debug!(url = %self.seed.url.host(), ?why, "web seed closed");
        let conn = self.conn;
        // Commands that still come are for nobody; the shard's task must not wait for us to take them.
        drop(self.inbox);
        let _ = self
            .context
            .shard
            .send(ShardMessage::Closed { conn, why })
            .await;
    }

    async fn serve(&mut self) -> CloseReason {
        loop {
            let next = match self.wanted.front() {
                Some(span) => self.fetch(*span).await,
                None => self.hear().await.map_err(End::Close),
            };
            if let Err(end) = next
                && let Err(why) = self.settle(end).await
            {
                return why;
            }
        }
    }

    /// Goes on after something has ended, if it can.
    async fn settle(&mut self, end: End) -> Result<(), CloseReason> {
        let end = match end {
            End::Whole(file, body) => self.read_whole(file, body).await,
            end => end,
        };
        match end {
            End::Close(why) => Err(why),
            End::Lacks(file, message) => self.lose(file, message).await,
            End::Whole(..) => Err(failed("it sends less than a whole file")),
            End::Unwanted => Ok(()),
        }
    }

    /// Waits for the next command.
    async fn hear(&mut self) -> Result<(), CloseReason> {
        let message = self.inbox.recv().await;
        self.obey(message)
    }

    fn obey(&mut self, message: Option<ConnMessage>) -> Result<(), CloseReason> {
        let Some(message) = message else {
            return Err(CloseReason::Shutdown);
        };
        let ConnMessage::Commands(commands) = message else {
            return Ok(());
        };
        for command in commands {
            match command {
                PeerCommand::Request(spans) => self.wanted.extend(spans),
                PeerCommand::Cancel(span) => self.wanted.retain(|wanted| *wanted != span),
                PeerCommand::Credit(credit) => {
                    let granted = credit.receive_bytes.map(u64::cast_signed);
                    let left = self.credit.unwrap_or(0);
                    self.credit = granted.map(|granted| left.saturating_add(granted));
                }
                PeerCommand::Close(why) => return Err(why),
                // What else is said is for peers that download.
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits for something, and hears commands meanwhile.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, CloseReason> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                message = self.inbox.recv() => self.obey(message)?,
            }
        }
    }

    /// Reports.
    async fn tell(&mut self, events: Vec<PeerEvent>) -> Result<(), CloseReason> {
        let (shard, conn) = (self.context.shard.clone(), self.conn);
        let permit = self.meanwhile(shard.reserve()).await?;
        let permit = permit.map_err(|_| CloseReason::Shutdown)?;
        permit.send(ShardMessage::Peer { conn, events });
        Ok(())
    }

    /// Gets the block that is wanted next.
    async fn fetch(&mut self, span: BlockSpan) -> Result<(), End> {
        let block = self.read_block(span).await?;
        self.report(span, block).await
    }

    /// Hands a block over, as one that was wanted if it still is.
    async fn report(&mut self, span: BlockSpan, block: BlockMut) -> Result<(), End> {
        self.spend(span.len.into());
        let before = self.wanted.len();
        self.wanted.retain(|wanted| *wanted != span);
        let event = if self.wanted.len() < before || self.takes_all {
            let block = block.freeze();
            PeerEvent::Received { span, block }
        } else {
            PeerEvent::Unwanted(span)
        };
        Ok(self.tell(vec![event]).await?)
    }

    fn spend(&mut self, bytes: u64) {
        if let Some(credit) = &mut self.credit {
            *credit = credit.saturating_sub_unsigned(bytes);
        }
    }

    /// Memory for a block, when there is some and it may come.
    async fn room(&mut self, len: u32) -> Result<BlockMut, CloseReason> {
        while self.credit.is_some_and(|credit| credit <= 0) {
            self.hear().await?;
        }
        let room = self.context.room.clone();
        loop {
            let mut has_room = pin!(room.notified());
            // First listen, then ask, so that room made in between is not missed.
            has_room.as_mut().enable();
            if let Some(block) = self.context.blocks.allocate(len as usize) {
                return Ok(block);
            }
            self.meanwhile(has_room).await?;
        }
    }

    async fn read_block(&mut self, span: BlockSpan) -> Result<BlockMut, End> {
        let layout = self.info.layout().clone();
        let mut block = self.room(span.len).await?;
        let mut rest = &mut block[..];
        for slice in layout.slices(span) {
            let Some((part, behind)) = rest.split_at_mut_checked(slice.len as usize) else {
                break;
            };
            rest = behind;
            if layout.file(slice.file).is_none_or(File::is_pad) {
                part.fill(0);
            } else {
                self.read(&layout, (slice.file, slice.offset), part).await?;
            }
        }
        Ok(block)
    }

    /// Fills `out` with what a file has from an offset on.
    async fn read(
        &mut self,
        layout: &Layout,
        (file, offset): (FileIndex, u64),
        out: &mut [u8],
    ) -> Result<(), End> {
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let mut body = match self.body.take() {
                Some(body) if body.leads_to(file, at, SKIP_MAX) => body,
                _ => {
                    self.open(layout, file, (at, offset + out.len() as u64))
                        .await?
                }
            };
            if body.is_whole() && !body.leads_to(file, at, SKIP_MAX) {
                return Err(End::Whole(file, body));
            }
            let read = self.meanwhile_with(&mut body, at, &mut out[done..]).await?;
            done += read;
            if read > 0 {
                self.body = Some(body);
                self.short = 0;
            } else {
                self.count_short()?;
            }
        }
        Ok(())
    }

    /// Reads from a body, and hears commands meanwhile; nothing if it has ended.
    async fn meanwhile_with(
        &mut self,
        body: &mut Body,
        at: u64,
        out: &mut [u8],
    ) -> Result<usize, CloseReason> {
        self.meanwhile(body.read(at, out)).await?.map_err(failed)
    }

    fn count_short(&mut self) -> Result<(), CloseReason> {
        self.short += 1;
        if self.short > SHORT_MAX {
            return Err(failed("it sends less than was asked for"));
        }
        Ok(())
    }

    /// Asks for a file from an offset on, until another one at least and as far as blocks are wanted that lie together.
    async fn open(
        &mut self,
        layout: &Layout,
        file: FileIndex,
        (at, until): (u64, u64),
    ) -> Result<Body, End> {
        let lacks = |message: &str| End::Lacks(file, message.to_owned());
        let entry = layout.file(file).ok_or_else(|| lacks("no such file"))?;
        let wanted = self.wanted_until(layout, file, at);
        if wanted <= at && !self.takes_all {
            return Err(End::Unwanted);
        }
        let part = Part {
            start: at,
            end: wanted.max(until),
            file_len: entry.len,
        };
        let url = locate::url_of(self.seed.url.as_str(), &self.info, entry);
        let url = url.ok_or_else(|| lacks("no url"))?;
        let author = if self.seed.is_from_user {
            Author::User
        } else {
            Author::Publisher
        };
        let sockets = self.sockets.clone();
        let asked = self
            .meanwhile(Body::open(&sockets, url.as_str(), author, (file, part)))
            .await?;
        asked.map_err(|refusal| match refusal {
            Refusal::Lacks(message) => End::Lacks(file, message),
            Refusal::Later {
                message,
                retry_after,
            } => End::Close(CloseReason::WebSeed(WebSeedFailure::Failed {
                message,
                retry_after,
            })),
        })
    }

    /// Where in a file the blocks end that are wanted and lie together from an offset on.
    fn wanted_until(&self, layout: &Layout, file: FileIndex, at: u64) -> u64 {
        let mut until = at;
        for span in &self.wanted {
            for slice in layout.slices(*span).filter(|slice| slice.file == file) {
                let end = slice.offset + u64::from(slice.len);
                if slice.offset > until {
                    return until;
                }
                until = until.max(end);
            }
        }
        until
    }

    /// Reads a file from its beginning to its end, and hands over all blocks of its pieces: its server knows no ranges, and
    /// would send all that again each time. After that it has nothing more of the file. What lies far behind in a file
    /// before it comes with that one.
    async fn read_whole(&mut self, file: FileIndex, body: Body) -> End {
        let layout = self.info.layout().clone();
        (self.body, self.takes_all) = (Some(body), true);
        let is_far = |slice: FileSlice| slice.file < file && slice.offset > SKIP_MAX;
        let pieces = layout.pieces_of(file).map(PieceIndex);
        let spans = pieces.flat_map(|piece| {
            let blocks = 0..layout.block_count(piece);
            blocks.map(move |block| (piece, block))
        });
        let mut end = None;
        for (piece, block) in spans {
            let Some(span) = layout.span(piece, block) else {
                continue;
            };
            if layout.is_padding(span) || layout.slices(span).any(is_far) {
                continue;
            }
            match self.fetch(span).await {
                // What a block has of other files may be missing; that is no matter of this one.
                Err(End::Lacks(other, _)) if other != file => {}
                Err(failed) => {
                    end = Some(failed);
                    break;
                }
                Ok(()) => {}
            }
        }
        (self.body, self.takes_all) = (None, false);
        let is_read = "it sends whole files only, and has sent this one";
        end.unwrap_or_else(|| End::Lacks(file, is_read.to_owned()))
    }

    /// A file cannot be had here: says so of its pieces, and goes on with others.
    async fn lose(&mut self, file: FileIndex, message: String) -> Result<(), CloseReason> {
        self.body = None;
        let layout = self.info.layout().clone();
        let lost = layout.pieces_of(file).map(PieceIndex);
        let lost: Vec<_> = lost.filter(|piece| self.have.clear(*piece)).collect();
        if self.have.none() {
            return Err(CloseReason::WebSeed(WebSeedFailure::Unfit(message)));
        }
        let name = layout.file(file).map_or("", |file| file.path.file_name());
        tracing::info!(host = %self.seed.url.host(), file = name, message, "a web seed lacks a file");
        let mut events: Vec<_> = lost.into_iter().map(PeerEvent::LostPiece).collect();
        let is_there = |span: &BlockSpan| self.have.has(span.piece);
        let (kept, refused): (_, VecDeque<_>) = self.wanted.drain(..).partition(is_there);
        self.wanted = kept;
        events.extend(refused.into_iter().map(PeerEvent::Rejected));
        self.tell(events).await
    }
}
