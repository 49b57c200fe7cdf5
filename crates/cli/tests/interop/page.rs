//! The page of `simulate --report` in a real browser, told what to do over its debugging pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::machine;
use crate::riverrun::PATIENCE;

/// How many messages of the browser are read for one answer.
const MESSAGES_MAX: usize = 10_000;

/// A browser with one page.
struct Browser {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What went wrong in the page, as the browser sees it.
    errors: Vec<Value>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts one that keeps what it keeps in `home`; `None` if none is installed.
    fn start(home: &Path) -> Option<Self> {
        if !machine::has("chromium", machine::works("chromium", &["--version"])) {
            return None;
        }
        // It reads messages from descriptor 3 and writes them to 4.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
            --disable-background-networking --host-resolver-rules='MAP * ~NOTFOUND' --window-size=1200,1600 \
            --user-data-dir=\"$0\" --remote-debugging-pipe 3<&0 4>&1 >/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in stdout.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("a message");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            stdin,
            messages,
            session: None,
            last: 0,
            errors: Vec::new(),
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// Has the browser do something; gives its answer.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.stdin, "{message}\0").expect("the browser listens");
        let id = self.last;
        let answer = self.hear(|message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The next message of that kind.
    fn hear(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..MESSAGES_MAX {
            let message = self.messages.recv_timeout(PATIENCE).expect("an answer");
            let is_error = message["method"] == "Runtime.exceptionThrown"
                || message["params"]["entry"]["level"] == "error";
            if is_error {
                self.errors.push(message.clone());
            }
            if is_it(&message) {
                return message;
            }
        }
        panic!("the browser does not answer");
    }

    fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
        self.hear(|message| message["method"] == "Page.loadEventFired");
    }

    /// What an expression comes to in the page; one that is a promise, once it is kept.
    fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", &params);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == " " { " " } else { "" };
            let params = json!({"type": kind, "key": key, "text": text});
            self.call("Input.dispatchKeyEvent", &params);
        }
    }

    fn prefer(&mut self, feature: &str, value: &str) {
        let features = json!([{"name": feature, "value": value}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Where the scrubber is, of a thousand.
    fn scrubber(&mut self) -> u64 {
        let value = self.evaluate("Number(document.getElementById('scrub').value)");
        value.as_u64().expect("a place")
    }
}

/// How many canvases have something on them.
const DRAWN_CANVASES: &str = "[...document.querySelectorAll('canvas')].filter((canvas) => canvas.getContext('2d')\
    .getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value)).length";

#[test]
fn the_page_of_a_run_works_in_a_browser() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("out.html");
    let Some(mut browser) = Browser::start(&dir.path().join("browser")) else {
        return;
    };
    let made = Command::new(env!("CARGO_BIN_EXE_riverrun"))
        .args(["simulate", "worked-example", "--report"])
        .arg(&page)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let url = format!("file://{}", page.display());

    browser.open(&url);
    assert_eq!(
        browser.evaluate("document.getElementById('player').hidden"),
        false
    );
    let shapes = browser.evaluate("document.querySelectorAll('#stage *').length");
    assert!(shapes.as_u64() > Some(20), "{shapes}");
    let canvases = browser.evaluate(DRAWN_CANVASES);
    assert!(canvases.as_u64() >= Some(3), "{canvases}");

    browser.evaluate("document.getElementById('stage').focus()");
    assert_eq!(browser.scrubber(), 0);
    let mut last = 0;
    for _ in 0..3 {
        browser.press("ArrowRight");
        let at = browser.scrubber();
        assert!(at > last, "{at} after {last}");
        last = at;
    }
    browser.press("ArrowLeft");
    assert!(browser.scrubber() < last);
    browser.press("End");
    assert_eq!(browser.scrubber(), 1000);
    browser.press("Home");
    assert_eq!(browser.scrubber(), 0);

    // Who wants to see motion sees it begin somewhere and go on.
    browser.press(" ");
    let moves = "new Promise((done) => { let frames = 0; const look = () => { const at = \
        Number(document.getElementById('scrub').value); if (at > 0 || ++frames > 600) done(at); \
        else requestAnimationFrame(look); }; look(); })";
    let at = browser.evaluate(moves).as_u64().expect("a place");
    assert!((1..1000).contains(&at), "{at}");

    // Who does not, sees the end at once.
    browser.prefer("prefers-reduced-motion", "reduce");
    browser.open(&url);
    browser.evaluate("document.getElementById('play').click()");
    assert_eq!(browser.scrubber(), 1000);
    assert_eq!(browser.evaluate("player.frame ?? null"), Value::Null);

    assert_eq!(browser.errors, Vec::<Value>::new());
}
