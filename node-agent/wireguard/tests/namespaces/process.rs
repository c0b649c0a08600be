//! The process inside a namespace: one device, told what to do line by line on standard input.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use rap_runtime::{Clock, TaskGroup};
use rap_wireguard::{
    DEFAULT_MTU, Device, DeviceConfig, DeviceSettings, Peer, PublicKey, StaticSecret, TunConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// First argument that makes the test program this process.
pub const ARGUMENT: &str = "device-process";

#[tokio::main]
pub async fn run() -> ExitCode {
    let group = TaskGroup::new();
    let mut lines = std::io::stdin().lines();
    let (mut device, mut last) = (None, DeviceConfig::default());
    while let Some(Ok(line)) = tokio::task::block_in_place(|| lines.next()) {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match (words.as_slice(), &device) {
            (["start", private, udp, tun, record @ ..], None) => {
                let record = record.first().map(std::path::PathBuf::from);
                device = Some(start(private, udp, tun, record, &group).await);
                "ok".to_owned()
            }
            (["table", addresses, peers @ ..], Some(device)) => {
                last = table(addresses, peers);
                match device.apply(last.clone()).await {
                    Ok(()) => "ok".to_owned(),
                    Err(error) => format!("error {}", error.reason().row().code),
                }
            }
            (["ping", destination], Some(device)) => {
                match device.ping(destination.parse().unwrap(), 1, PATIENCE).await {
                    Ok(rtt) => format!("rtt {}", rtt.as_nanos()),
                    Err(error) => format!("error {}", error.reason().row().code),
                }
            }
            (["contested"], Some(device)) => {
                // Until it is put right or left alone.
                tokio::time::timeout(PATIENCE, settled(device)).await.unwrap().to_string()
            }
            (["control", addresses], Some(device)) => {
                last.control = addresses.split(',').map(|address| address.parse().unwrap()).collect();
                device.apply(last.clone()).await.unwrap();
                "ok".to_owned()
            }
            (["findings"], Some(device)) => {
                let findings = device.findings().await;
                let texts =
                    findings.iter().map(|found| format!("{}:{}", found.reason.row().code, found.text));
                texts.collect::<Vec<_>>().join("|")
            }
            (["count", code], Some(device)) => {
                let (_, count) =
                    device.counters().into_iter().find(|(reason, _)| reason.code() == *code).unwrap();
                count.to_string()
            }
            (["serve", address], Some(_)) => {
                serve(SocketAddr::new(address.parse().unwrap(), PORT), &group).await;
                "ok".to_owned()
            }
            (["echo", address, bytes], Some(_)) => {
                let to = SocketAddr::new(address.parse().unwrap(), PORT);
                tokio::time::timeout(PATIENCE, echo(to, bytes.parse().unwrap())).await.unwrap();
                "ok".to_owned()
            }
            (["ended"], Some(device)) => {
                tokio::time::timeout(PATIENCE, device.ended()).await.unwrap();
                device.failure().map_or("stopped".to_owned(), |failure| format!("failed {}", failure.cause))
            }
            _ => panic!("unknown command"),
        };
        println!("{answer}");
        std::io::stdout().flush().unwrap();
    }
    if let Some(device) = device {
        device.stop().await;
    }
    group.shutdown(Duration::from_secs(5)).await;
    ExitCode::SUCCESS
}

async fn start(
    private: &str,
    udp: &str,
    tun: &str,
    record: Option<std::path::PathBuf>,
    group: &TaskGroup,
) -> Device {
    let mut key = [0; 32];
    hex::decode_to_slice(private, &mut key).unwrap();
    let settings = DeviceSettings {
        private_key: StaticSecret::from(key),
        underlay: udp.parse().unwrap(),
        tun: Some(TunConfig { name: tun.to_owned(), mtu: DEFAULT_MTU, record, allowed: Vec::new() }),
        paths: None,
    };
    Device::start(settings, group, Clock::new()).await.unwrap()
}

/// Waits until the own address is back, or left alone: then true.
async fn settled(device: &Device) -> bool {
    loop {
        let findings = device.findings().await;
        if findings.iter().any(|found| found.reason == rap_types::Reason::InterfaceContested) {
            return true;
        }
        let own = std::net::Ipv4Addr::new(100, 96, 0, 1);
        let is_own = |interface: nix::ifaddrs::InterfaceAddress| {
            let address = interface.address.and_then(|address| address.as_sockaddr_in().map(|v4| v4.ip()));
            address == Some(own)
        };
        if nix::ifaddrs::getifaddrs().unwrap().any(is_own) {
            return false;
        }
        tokio::task::yield_now().await;
    }
}

/// `NET,NET[;ROUTED,ROUTED] KEY|ENDPOINT|NET,NET ...`
fn table(addresses: &str, peers: &[&str]) -> DeviceConfig {
    let nets = |text: &str| text.split(',').map(|net| net.parse().unwrap()).collect();
    let (addresses, routed) = addresses.split_once(';').unwrap_or((addresses, ""));
    let routed = if routed.is_empty() { Vec::new() } else { nets(routed) };
    let peer = |text: &&str| {
        let parts: Vec<&str> = text.split('|').collect();
        let mut key = [0; 32];
        hex::decode_to_slice(parts[0], &mut key).unwrap();
        Peer {
            public_key: PublicKey::from(key),
            preshared: None,
            endpoints: parts[1].parse().into_iter().collect(),
            allowed_ips: nets(parts[2]),
            keepalive: None,
            deadline: None,
            survive_forever: false,
            relayed: false,
        }
    };
    DeviceConfig {
        addresses: nets(addresses),
        routed,
        peers: peers.iter().map(peer).collect(),
        ..DeviceConfig::default()
    }
}

/// Sends back what comes on one connection.
async fn serve(address: SocketAddr, group: &TaskGroup) {
    let listener = TcpListener::bind(address).await.unwrap();
    group.spawn("echo-server", async move {
        let (mut stream, _) = listener.accept().await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    });
}

/// Sends `bytes` bytes, no two blocks alike, and checks that they come back.
async fn echo(to: SocketAddr, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|place| (place.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut stream = TcpStream::connect(to).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let send = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut received = Vec::with_capacity(bytes);
    let (_, result) = tokio::join!(send, reader.read_to_end(&mut received));
    result.unwrap();
    assert!(received == sent, "{} of {bytes} bytes came back, or others", received.len());
}

const PORT: u16 = 7007;
const PATIENCE: Duration = Duration::from_secs(60);
