//! A tiny web server that says what it is told to, to whoever connects.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// What it does with each connection.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A whole response with this status and body.
    Body(u16, Vec<u8>),
    /// Sends everybody to this URL.
    Redirect(String),
    /// Bytes that are no HTTP.
    Raw(&'static [u8]),
    /// Closes without a word.
    Close,
    /// Never says anything.
    Silence,
}

/// Serves until the process ends; gives the address.
pub(crate) fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever asked may leave in the middle.
            silent.extend(respond(stream, &answer).ok().flatten());
        }
    });
    addr
}

/// Answers one request; gives the connection back if it is to stay open.
fn respond(mut stream: TcpStream, answer: &Answer) -> std::io::Result<Option<TcpStream>> {
    match answer {
        Answer::Silence => return Ok(Some(stream)),
        Answer::Close => {}
        Answer::Raw(bytes) => {
            read_request(&mut stream)?;
            stream.write_all(bytes)?;
        }
        Answer::Redirect(url) => {
            read_request(&mut stream)?;
            write!(
                stream,
                "HTTP/1.1 302 X\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )?;
        }
        Answer::Body(status, body) => {
            read_request(&mut stream)?;
            let len = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
            )?;
            stream.write_all(body)?;
        }
    }
    Ok(None)
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => break,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(())
}
