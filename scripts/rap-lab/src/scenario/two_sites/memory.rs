//! What a relay has of the traffic that it carries: the label of its path, and nothing that the sites say to each other.
//!
//! The same search is made in the memory of the source, where it must find the text: else it would find nothing anywhere.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use super::scene::Scene;
use crate::check::Finding;
use crate::fabric::{CALL, Node, inside};
use crate::process::Process;
use crate::wait::{rest, wait_until};

/// Searches a relay that is stopped while what it should carry is queued at it.
pub fn relay_sees_nothing(scene: &Scene<'_>) -> Result<Finding> {
    let [a, b] = &scene.sites;
    let text: [u8; 32] = rand::random();
    let target = (b.overlay_address(a)?.parse::<Ipv4Addr>()?, PORT);
    let (sender, receiver) = (
        inside(a.host(), || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?,
        inside(b.host(), || Ok(UdpSocket::bind(target)?))?,
    );
    receiver.set_read_timeout(Some(CALL))?;
    let stop = AtomicBool::new(false);
    let (at_relay, at_source, relay, queued) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let datagram = text.repeat(30);
            while !stop.load(Ordering::SeqCst) {
                // A full queue of the device is a lost datagram.
                let _ = sender.send_to(&datagram, target);
                rest(Duration::from_millis(1));
            }
        });
        let found = searched(scene, &receiver, &text);
        stop.store(true, Ordering::SeqCst);
        found
    })?;
    scene.wait_homes()?;
    let value = json!({
        "relay": relay, "bytes_queued": queued, "text_at_relay": at_relay.text, "labels_at_relay": at_relay.labels,
        "text_at_source": at_source.text, "labels_at_source": at_source.labels,
        "searched_bytes": [at_relay.bytes, at_source.bytes],
    });
    ensure!(at_source.text, "the search does not find the text where it is: {value}");
    ensure!(at_relay.labels > 0, "the search does not find the label where it is: {value}");
    ensure!(!at_relay.text, "the relay has the text: {value}");
    Ok(Finding::new(true, value, "the relay has the label of the path and not what the sites say"))
}

/// What a search found.
struct Found {
    text: bool,
    labels: usize,
    bytes: usize,
}

fn searched(scene: &Scene<'_>, receiver: &UdpSocket, text: &[u8]) -> Result<(Found, Found, String, u64)> {
    let source = &scene.sites[0];
    let mut buffer = [0; 2048];
    let count = receiver.recv(&mut buffer).context("the text arrives")?;
    ensure!(buffer[..count].starts_with(text), "something else arrived");
    let (relay, _) = scene.relay_in_use()?;
    let (carrier, own) = (relay.dataplane(scene.lab)?, source.dataplane(scene.lab)?);
    let (queued, at_relay) = stopped(carrier, || {
        let queued = wait_until(CALL, "frames wait at the relay", || queued(relay))?;
        Ok((queued, carrier.memory()?))
    })?;
    let at_source = stopped(own, || own.memory())?;
    let labels = labels(source)?;
    ensure!(!labels.is_empty(), "{} said no label", source.name());
    Ok((find(&at_relay, text, &labels), find(&at_source, text, &labels), relay.name().to_owned(), queued))
}

/// Does something while a process is stopped, and lets it go on in any case.
fn stopped<T>(process: Process, act: impl FnOnce() -> Result<T>) -> Result<T> {
    process.signal(Signal::STOP);
    let paused = wait_until(CALL, "the process is stopped", || Ok(process.is_paused().then_some(())));
    let done = paused.and_then(|()| act());
    process.signal(Signal::CONT);
    done
}

/// Bytes that the host's link port got and no process read; `None`: none.
fn queued(relay: &Node) -> Result<Option<u64>> {
    let table = inside(relay.host(), || Ok(fs::read_to_string("/proc/thread-self/net/tcp")?))?;
    let of_link = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(words.get(1)?.split_once(':')?.1, 16).ok()?;
        let waiting = u64::from_str_radix(words.get(4)?.split_once(':')?.1, 16).ok()?;
        // A listening socket counts connections there.
        (port == LINK_PORT && *words.get(3)? == "01").then_some(waiting)
    };
    let waiting: u64 = table.lines().filter_map(of_link).sum();
    Ok((waiting > 0).then_some(waiting))
}

/// Labels by which a node asked for its paths.
fn labels(node: &Node) -> Result<Vec<u64>> {
    let mut text = String::new();
    read_logs(&node.host().folder("run"), &mut text)?;
    let asked = text.lines().filter(|line| line.contains("path asked for"));
    let label = |line: &str| line.split_once("label=")?.1.split_whitespace().next()?.parse().ok();
    Ok(asked.filter_map(label).collect())
}

fn read_logs(folder: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_logs(&path, text)?;
        } else if path.file_name().is_some_and(|name| name == "dataplane.log") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Labels are searched as a processor of this kind keeps them and as they are on the wire.
fn find(memory: &[Vec<u8>], text: &[u8], labels: &[u64]) -> Found {
    let labels: Vec<_> = labels.iter().flat_map(|label| [label.to_ne_bytes(), label.to_be_bytes()]).collect();
    let mut first = [false; 256];
    for begin in labels.iter().map(|label| label[0]).chain([text[0]]) {
        first[usize::from(begin)] = true;
    }
    let mut found = Found { text: false, labels: 0, bytes: memory.iter().map(Vec::len).sum() };
    for part in memory {
        for (at, _) in part.iter().enumerate().filter(|(_, byte)| first[usize::from(**byte)]) {
            found.text |= part[at..].starts_with(text);
            found.labels += labels.iter().filter(|label| part[at..].starts_with(&label[..])).count();
        }
    }
    found
}

const PORT: u16 = 9917;
const LINK_PORT: u16 = 7443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_labels_are_found_wherever_they_are_and_nothing_else_is() {
        let label = 0x0102_0304_0506_0708_u64;
        let memory = [
            vec![0, 7, 7, 9],
            [vec![1; 3], label.to_be_bytes().to_vec(), label.to_ne_bytes().to_vec()].concat(),
        ];
        let found = find(&memory, b"\x07\x09", &[label]);
        assert_eq!((found.text, found.labels, found.bytes), (true, 2, 23));
        let found = find(&memory, b"\x07\x0a", &[label + 1]);
        assert_eq!((found.text, found.labels), (false, 0));
    }
}
