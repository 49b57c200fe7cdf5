//! HTTP: connections, and what each path answers.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use riverrun_tracker::Retry;
use riverrun_tracker::server::http::{
    HttpRequest, InvalidRequest, announce_body, failure_body, parse, scrape_body,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connections::{Connections, Permit};
use crate::service::Service;

/// How long the first request may take to arrive: nobody else is kept waiting, but connections are few.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection stays open after a request, for its answer to go out and for another to come.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long answers under way may take when the tracker stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait when the system has no room for another connection.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);
/// The longest head of a request, in bytes: its target, of 8 KiB at most, and some headers.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// When those come back that found the tracker full.
const FULL_RETRY: Retry = Retry::After(Duration::from_mins(30));

/// Accepts connections until the tracker stops.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    connections: Arc<Connections>,
    mut stopping: watch::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let permit = connections.open(from.ip());
                    tasks.spawn(connection(stream, from, Arc::clone(&service), permit, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    sleep(ACCEPT_ERROR_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_TIMEOUT, all_ended).await.is_err() {
        tracing::debug!("connections were cut off at shutdown");
    }
}

/// Answers the requests of one connection, until it ends, is idle for too long or has to make room.
async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    service: Arc<Service>,
    permit: Permit,
    mut stopping: watch::Receiver<()>,
) {
    let requested = Notify::new();
    let answer = service_fn(|request: Request<_>| {
        permit.request();
        requested.notify_one();
        let response = respond(&request, from.ip().to_canonical(), &service);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    // Both timeouts are kept here, where they cover answers that are not read, too.
    server.header_read_timeout(None).max_buf_size(HEAD_LEN_MAX);
    let mut exchange = pin!(server.serve_connection(TokioIo::new(stream), answer));
    let (mut deadline, mut is_stopping) = (Instant::now() + FIRST_REQUEST_TIMEOUT, false);
    loop {
        tokio::select! {
            ended = exchange.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%from, %error, "an http connection failed");
                }
                return;
            }
            () = requested.notified() => deadline = Instant::now() + IDLE_TIMEOUT,
            () = sleep_until(deadline) => return,
            () = permit.closed() => return,
            _ = stopping.changed(), if !is_stopping => {
                is_stopping = true;
                exchange.as_mut().graceful_shutdown();
            }
        }
    }
}

fn respond<B>(request: &Request<B>, source: IpAddr, service: &Service) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is known here\n");
    }
    match request.uri().path() {
        "/" => text(
            StatusCode::OK,
            "This is a BitTorrent tracker. Announce to /announce.\n",
        ),
        "/stats" => stats(service),
        path => {
            let target = request
                .uri()
                .path_and_query()
                .map_or(path, |target| target.as_str());
            track(target, source, service)
        }
    }
}

/// Answers an announce or a scrape. Refusals are answers like others (BEP 3), with status 200: clients read
/// no body of an error.
fn track(target: &str, source: IpAddr, service: &Service) -> Response<Full<Bytes>> {
    match parse(target) {
        Ok(HttpRequest::Announce(announce)) => match service.announce(&announce, source) {
            Ok(reply) => bencode(
                StatusCode::OK,
                announce_body(&reply, announce.format, source),
            ),
            Err(full) => bencode(
                StatusCode::OK,
                failure_body(&full.to_string(), Some(FULL_RETRY)),
            ),
        },
        Ok(HttpRequest::Scrape(info_hashes)) => {
            bencode(StatusCode::OK, scrape_body(service.scrape(&info_hashes)))
        }
        Err(invalid) => {
            service.count_refused();
            refuse(invalid)
        }
    }
}

fn refuse(invalid: InvalidRequest) -> Response<Full<Bytes>> {
    let reason = invalid.to_string();
    match invalid {
        // Nothing will ever be there (BEP 31).
        InvalidRequest::UnknownPath => bencode(
            StatusCode::NOT_FOUND,
            failure_body(&reason, Some(Retry::Never)),
        ),
        _ => bencode(StatusCode::OK, failure_body(&reason, None)),
    }
}

fn stats(service: &Service) -> Response<Full<Bytes>> {
    let stats = service.stats();
    let json = format!(
        r#"{{"torrents":{},"peers":{},"seeds":{},"announces":{},"scrapes":{},"refused":{}}}"#,
        stats.torrents, stats.peers, stats.seeds, stats.announces, stats.scrapes, stats.refused
    );
    response(StatusCode::OK, "application/json", json)
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text)
}

/// Trackers have always called bencode plain text.
fn bencode(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    response(status, "text/plain", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
