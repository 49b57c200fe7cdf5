//! What clients ask of our tracker, over UDP and HTTP.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use riverrun_base::Time;
use riverrun_fuzz::Input;
use riverrun_tracker::server::{
    ConnectionIds, Swarms, SwarmsConfig, TrustedSources, UdpServer, http,
};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut now = Time::from_secs(1000);
    let trusted = TrustedSources::new([]);
    let server = UdpServer::new(ConnectionIds::new([5; 32]), trusted.clone());
    let mut swarms = Swarms::new(SwarmsConfig::default(), 1);
    let mut out = Vec::new();
    while !input.is_empty() {
        let kind = input.byte();
        now = now + Duration::from_secs(input.short().into());
        let from: SocketAddr = if kind & 4 == 0 {
            ([203, 0, 113, kind], 6881).into()
        } else {
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(kind)], 6881).into()
        };
        match kind % 4 {
            0 => {
                let _ = server.handle_datagram(now, from, input.counted(), &mut swarms, &mut out);
            }
            1 => {
                let target = String::from_utf8_lossy(input.counted());
                ask_over_http(&target, from, now, &trusted, &mut swarms);
            }
            _ => {
                // From a client that was given a connection id.
                let connect = [&0x417_2710_1980_u64.to_be_bytes()[..], &[0; 8]].concat();
                let _ = server.handle_datagram(now, from, &connect, &mut swarms, &mut out);
                let id = out[8..16].to_vec();
                let asked = [&id, input.counted()].concat();
                let _ = server.handle_datagram(now, from, &asked, &mut swarms, &mut out);
            }
        }
        swarms.expire(now, 16);
    }
});

fn ask_over_http(
    target: &str,
    from: SocketAddr,
    now: Time,
    trusted: &TrustedSources,
    swarms: &mut Swarms,
) {
    match http::parse(target) {
        Ok(http::HttpRequest::Announce(asked)) => {
            let announce = asked.resolve(from.ip(), trusted);
            if let Ok(reply) = swarms.announce(now, &announce) {
                let body = http::announce_body(&reply, asked.format, from.ip());
                assert!(riverrun_tracker::http::parse_announce(&body).is_ok());
            }
        }
        Ok(http::HttpRequest::Scrape(asked)) => {
            let files = asked.into_iter().map(|hash| (hash, swarms.scrape(hash)));
            let body = http::scrape_body(files.collect::<Vec<_>>());
            assert!(riverrun_tracker::http::parse_scrape(&body).is_ok());
        }
        Err(_) => {}
    }
}
