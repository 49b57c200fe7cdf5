//! Trackers over HTTPS, with certificates that an authority of the test has signed.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::payload::Shape;
use crate::riverrun::command;
use crate::scene::Scene;

/// Signs certificates; trusted by nobody who is not told to.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its certificate in a file, for `--tracker-ca`.
    fn file(&self, scene: &Scene) -> PathBuf {
        let path = scene.home().join("ca.pem");
        std::fs::write(&path, self.0.pem()).unwrap();
        path
    }

    /// A certificate for a host, until the beginning of a year.
    fn certify(&self, host: &str, until: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }
}

/// A tracker that names one peer to all, until the process ends; gives its announce URL.
fn serve(tls: Arc<ServerConfig>, peer: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/announce", listener.local_addr().unwrap());
    let SocketAddr::V4(peer) = peer.parse().unwrap() else {
        panic!("{peer} is no IPv4 address");
    };
    let mut body = b"d8:intervali1800e5:peers6:".to_vec();
    body.extend(peer.ip().octets());
    body.extend(peer.port().to_be_bytes());
    body.push(b'e');
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Who does not trust us leaves in the middle.
            let _ = respond(stream, tls.clone(), &body);
        }
    });
    url
}

fn respond(mut stream: TcpStream, tls: Arc<ServerConfig>, body: &[u8]) -> std::io::Result<()> {
    let mut connection = ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut stream = Stream::new(&mut connection, &mut stream);
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..count]);
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn a_tracker_whose_authority_is_trusted_brings_peers() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let (_seeder, peer) = scene.seed("100MiB");
    let authority = Authority::new("ours");
    let url = serve(authority.certify("127.0.0.1", 3000), &peer);
    let ca = authority.file(&scene);
    let ca = ca.to_str().unwrap();
    let ended = scene.get(&[scene.torrent(), "-t", &url, "--tracker-ca", ca]);
    ended.end().assert(0, &[]);
    scene.assert_taken();
}

#[test]
fn a_certificate_that_is_not_right_is_said_with_its_tracker() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let (_seeder, peer) = scene.seed("100MiB");
    let (ours, other) = (Authority::new("ours"), Authority::new("another"));
    let ca = ours.file(&scene);
    for (tls, cause) in [
        (
            other.certify("127.0.0.1", 3000),
            "is signed by nobody who is trusted here",
        ),
        (ours.certify("127.0.0.1", 2001), "has expired"),
        (ours.certify("tracker.example", 3000), "is for another host"),
    ] {
        let url = serve(tls, &peer);
        let args = [
            scene.torrent(),
            "-t",
            &url,
            "--timeout",
            "2s",
            "--tracker-ca",
        ];
        let ended = scene.get(&[&args[..], &[ca.to_str().unwrap()]].concat());
        let said = format!("{url}: the tracker is not trusted: its certificate {cause}");
        ended.end().assert(8, &[&said]);
    }
}

#[test]
fn a_file_without_authorities_is_a_wrong_setting() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let get = |ca: &str| scene.get(&[scene.torrent(), "--tracker-ca", ca]).end();
    get("missing.pem").assert(5, &["missing.pem"]);
    let torrent = scene.torrent().to_owned();
    get(&torrent).assert(3, &[&torrent, "no certificate in PEM form"]);
}

/// Small containers have no list of authorities. Whoever needs none must not notice.
#[test]
fn without_any_authority_plain_http_works_and_https_is_not_trusted() {
    let scene = Scene::set(Shape::Single, "--hybrid");
    let (_seeder, peer) = scene.seed("100MiB");
    let url = serve(Authority::new("nobody's").certify("127.0.0.1", 3000), &peer);
    let get = |args: &[&str]| {
        let common = [
            "get",
            "-o",
            "taken/here",
            "--listen",
            "127.0.0.1:0",
            scene.torrent(),
        ];
        let mut get = command(&scene.home(), &[&common, args].concat());
        get.env("SSL_CERT_FILE", "/dev/null")
            .env("SSL_CERT_DIR", "/nonexistent");
        get.output().unwrap()
    };
    let output = get(&["-t", &url, "--timeout", "2s"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(8), "{text}");
    assert!(text.contains("the tracker is not trusted"), "{text}");
    let output = get(&["--peer", &peer]);
    assert!(output.status.success(), "{output:?}");
}
