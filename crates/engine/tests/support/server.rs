//! A server of files over HTTP on loopback, honest or not, written by hand so that it can do what no server does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As it should.
    Honest,
    /// Always with the whole file.
    WithoutRanges,
    /// With zeros.
    Wrong,
    /// With a body that never ends, of as many bytes as it likes.
    Endless,
    /// With a body that ends before anything has come.
    Empty,
    /// With a body that ends in the middle, each time.
    Short,
    /// With another range than was asked for.
    WrongRange,
    /// With a file that is one byte longer.
    Longer,
    /// With a redirect to itself.
    Loop,
    /// That there is no such file.
    NotFound,
    /// That it has no time.
    Busy,
    /// With no answer.
    HangsUp,
}

impl Manner {
    pub(crate) const HOSTILE: [Self; 10] = [
        Self::Wrong,
        Self::Endless,
        Self::Empty,
        Self::Short,
        Self::WrongRange,
        Self::Longer,
        Self::Loop,
        Self::NotFound,
        Self::Busy,
        Self::HangsUp,
    ];
}

/// What it was asked for: the path, and the first and the last byte if it was a range.
pub(crate) type Asked = (String, Option<(u64, u64)>);

/// A server of all files below a directory.
pub(crate) struct Server {
    /// Without a path.
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start(dir: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, dir) = (Arc::new(Mutex::new(Vec::new())), dir.to_path_buf());
        let log = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = serve(stream, dir.clone(), manner, log.clone());
                // Whoever asks may hang up.
                tokio::spawn(async move { drop(served.await) });
            }
        });
        Self {
            url,
            asked,
            task: task.abort_handle(),
        }
    }

    /// What it was asked for so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    dir: PathBuf,
    manner: Manner,
    log: Arc<Mutex<Vec<Asked>>>,
) -> std::io::Result<()> {
    while let Some((path, range)) = head(&mut stream).await? {
        log.lock().unwrap().push((path.clone(), range));
        let file = std::fs::read(dir.join(unescaped(&path).trim_start_matches('/')));
        let (Ok(file), true) = (file, manner != Manner::NotFound) else {
            let head = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            continue;
        };
        let len = file.len() as u64;
        let (first, last) = range.unwrap_or((0, len - 1));
        let part = &file[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        let ranged = |first: u64, last: u64, len: u64| {
            let size = last - first + 1;
            format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {size}\r\n\
                 content-range: bytes {first}-{last}/{len}\r\n\r\n"
            )
        };
        match manner {
            Manner::Honest => send(&mut stream, &ranged(first, last, len), part).await?,
            Manner::WithoutRanges => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
                send(&mut stream, &head, &file).await?;
            }
            Manner::Wrong => {
                let zeros = vec![0; part.len()];
                send(&mut stream, &ranged(first, last, len), &zeros).await?;
            }
            Manner::Endless => {
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {first}-{last}/{len}\r\n\r\n"
                );
                send(&mut stream, &head, &[]).await?;
                loop {
                    stream.write_all(&[0; 4096]).await?;
                }
            }
            Manner::Empty => {
                return send(&mut stream, &ranged(first, last, len), &[]).await;
            }
            Manner::Short => {
                let half = &part[..part.len() / 2];
                return send(&mut stream, &ranged(first, last, len), half).await;
            }
            Manner::WrongRange => {
                send(&mut stream, &ranged(first + 1, last + 1, len), part).await?;
            }
            Manner::Longer => send(&mut stream, &ranged(first, last, len + 1), part).await?,
            Manner::Loop => {
                let head =
                    format!("HTTP/1.1 302 Found\r\nlocation: {path}\r\ncontent-length: 0\r\n\r\n");
                send(&mut stream, &head, &[]).await?;
            }
            Manner::Busy => {
                let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3000\r\ncontent-length: 0\r\n\r\n";
                send(&mut stream, head, &[]).await?;
            }
            Manner::HangsUp | Manner::NotFound => return Ok(()),
        }
    }
    Ok(())
}

async fn send(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

/// Reads the head of the next request; `None` if there is none.
async fn head(stream: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let range = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_range = name.eq_ignore_ascii_case("range");
        let (first, last) = value
            .strip_prefix("bytes=")
            .filter(|_| is_range)?
            .split_once('-')?;
        Some((first.parse().unwrap(), last.parse().unwrap()))
    });
    Ok(Some((path, range)))
}

fn unescaped(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().unwrap(), rest.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
