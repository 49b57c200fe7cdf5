//! What uTP costs by itself: bytes from one process to another by one connection, without torrents, files or hashes, and
//! beside it the same by TCP.
//!
//! `cargo run --release -p riverrun-engine --example utp -- 4 3`: so many GB each time, in so many rounds
//!
//! The driver is the engine's: its UDP socket, its tasks, its runtime. The sender writes blocks of 16 KiB, as peers do, and
//! each process counts the CPU time of all its threads, the kernel's part included; what the kernel does for the receiver
//! while it sends over loopback is counted where it is done. Reads `/proc`.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

mod process;

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use riverrun_engine::UtpEndpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::process::cpu_seconds;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks in one write.
const BLOCKS: usize = 16;
/// As many writes of so many blocks as make a gigabyte, and a little more.
const WRITES_PER_GB: usize = 3815;
const GB_BYTES: usize = 1_000_000_000;
/// What is read at once, at most: uTP's chunks are as large.
const READ_BYTES: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("receive-utp") => receive_utp().await,
        Some("receive-tcp") => receive_tcp().await,
        _ => {
            let number = |at: usize| args.get(at).map_or(Ok(1), |arg| arg.parse::<u32>());
            let (size, rounds) = (number(0)?, number(1)?);
            println!("CPU s/GB     sender  receiver  GB/s");
            for _ in 0..rounds {
                measure("utp", size).await?;
                measure("tcp", size).await?;
            }
            Ok(())
        }
    }
}

/// Sends to another process, and tells what it took both.
async fn measure(way: &str, size: u32) -> Result<()> {
    let mut receiver = Command::new(std::env::current_exe()?)
        .arg(format!("receive-{way}"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(receiver.stdout.take().ok_or("no output")?);
    let mut addr = String::new();
    said.read_line(&mut addr)?;
    let addr: SocketAddr = addr.trim().parse()?;
    let (begun, before) = (Instant::now(), cpu_seconds()?);
    let writes = size as usize * WRITES_PER_GB;
    let bytes = vec![0x5a; BLOCK_BYTES * BLOCKS];
    if way == "utp" {
        let endpoint = UtpEndpoint::bind("127.0.0.1:0".parse()?)?;
        let conn = endpoint.dial(addr).await?;
        for _ in 0..writes {
            conn.write_all(&bytes).await?;
        }
        drop(conn);
        end(&mut said, (way, size), (begun, before))?;
    } else {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        for _ in 0..writes {
            stream.write_all(&bytes).await?;
        }
        drop(stream);
        end(&mut said, (way, size), (begun, before))?;
    }
    receiver.wait()?;
    Ok(())
}

/// Waits until the receiver has everything, and says what both have used.
fn end(
    said: &mut BufReader<std::process::ChildStdout>,
    (way, size): (&str, u32),
    (begun, before): (Instant, f64),
) -> Result<()> {
    let mut used = String::new();
    // What was written last leaves while this thread waits: the runtime has others.
    tokio::task::block_in_place(|| said.read_to_string(&mut used))?;
    let (took, sender) = (begun.elapsed().as_secs_f64(), cpu_seconds()? - before);
    let size = f64::from(size);
    let receiver = used.trim().parse::<f64>()? / size;
    let sender = sender / size;
    println!(
        "{way}          {sender:6.2}    {receiver:6.2}  {:4.2}",
        size / took
    );
    Ok(())
}

async fn receive_utp() -> Result<()> {
    let mut endpoint = UtpEndpoint::bind("127.0.0.1:0".parse()?)?;
    println!("{}", endpoint.local_addr());
    let before = cpu_seconds()?;
    let conn = endpoint.accept().await.ok_or("no socket")?;
    let mut buffer = Vec::new();
    let mut received = 0;
    loop {
        buffer.clear();
        match conn.read(&mut buffer).await? {
            0 => break,
            count => received += count,
        }
    }
    tell(before, received)
}

async fn receive_tcp() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let before = cpu_seconds()?;
    let (mut stream, _) = listener.accept().await?;
    let mut buffer = vec![0; READ_BYTES];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => received += count,
        }
    }
    tell(before, received)
}

/// Tells the sender what this process has used.
fn tell(before: f64, received: usize) -> Result<()> {
    if received < GB_BYTES {
        return Err(format!("{received} bytes only").into());
    }
    println!("{}", cpu_seconds()? - before);
    Ok(())
}
