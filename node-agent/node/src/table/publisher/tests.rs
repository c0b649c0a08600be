use rap_types::limits;
use rap_wire::v1::{self, TablePeer, TableRevoked};

use super::*;

fn peer(number: u16) -> TablePeer {
    TablePeer {
        node_id: [&[7; 14][..], &number.to_be_bytes()].concat(),
        allowed_ips: vec!["fd00:1234:5678:9abc:def0:1234:5678:9abc/128".to_owned(); 4],
        ..Default::default()
    }
}

fn revoked(number: u16) -> TableRevoked {
    TableRevoked { node_id: peer(number).node_id, key_generation: 1 }
}

fn table(version: u64, peers: u16, gone: &[u16]) -> Arc<ForwardingTable> {
    let header = v1::ForwardingTable { deadline_ns: 9, ..Default::default() };
    let peers = (0..peers).filter(|number| !gone.contains(number)).map(peer).collect();
    let revoked = gone.iter().map(|number| revoked(*number)).collect();
    Arc::new(ForwardingTable::new(version, header, peers, revoked))
}

fn at(seconds: u64) -> Mono {
    Mono(0).plus(Duration::from_secs(seconds))
}

/// Offers a table and answers everything with yes; what was sent.
fn publish(publisher: &mut TablePublisher, table: Arc<ForwardingTable>) -> Vec<Body> {
    let version = table.version();
    publisher.offer(table);
    let mut sent = Vec::new();
    while let Some(next) = publisher.poll(at(0)) {
        sent.push(next.unwrap());
        assert!(publisher.poll(at(0)).is_none(), "one at a time");
        if let Some(published) = publisher.answered(Ok(()), at(0)) {
            assert_eq!(published, Ok(version));
        }
    }
    assert_eq!(publisher.poll_timeout(), None);
    sent
}

fn kinds(sent: &[Body]) -> Vec<&'static str> {
    let kind = |body: &Body| match body {
        Body::Table(_) => "whole",
        Body::TablePart(_) => "part",
        Body::TableDelta(_) => "change",
        _ => "other",
    };
    sent.iter().map(kind).collect()
}

#[test]
fn the_first_table_is_whole_and_the_next_ones_are_changes() {
    let mut publisher = TablePublisher::new(2);
    assert_eq!(kinds(&publish(&mut publisher, table(1, 100, &[]))), ["whole"]);
    let sent = publish(&mut publisher, table(2, 101, &[3]));
    let [Body::TableDelta(change)] = sent.as_slice() else { panic!("{:?}", kinds(&sent)) };
    assert_eq!((change.base_version, change.version), (1, 2));
    assert_eq!((&change.peers, &change.removed), (&vec![peer(100)], &vec![peer(3).node_id]));
    assert_eq!((&change.revoked, change.header.is_none()), (&vec![revoked(3)], true));
    assert_eq!(kinds(&publish(&mut publisher, table(3, 101, &[]))), ["whole"], "a revocation went away");
}

#[test]
fn a_data_plane_of_the_release_before_gets_whole_tables_only() {
    let mut publisher = TablePublisher::new(1);
    for version in 1..4 {
        assert_eq!(kinds(&publish(&mut publisher, table(version, 100, &[5]))), ["whole"]);
        assert_eq!(publisher.revoke(), None);
    }
}

#[test]
fn a_large_table_goes_in_parts_that_fit_and_make_it_whole() {
    let wanted = table(1, 8000, &[7]);
    let sent = publish(&mut TablePublisher::new(2), wanted.clone());
    assert!(sent.len() > 1 && kinds(&sent).iter().all(|kind| *kind == "part"));
    let mut whole = v1::ForwardingTable::default();
    for (number, body) in sent.iter().enumerate() {
        let Body::TablePart(part) = body else { panic!("{:?}", kinds(&sent)) };
        assert!(part.encoded_len() + 64 < limits::DATAPLANE_FRAME_MAX);
        assert_eq!((part.part as usize, part.count as usize, part.version), (number, sent.len(), 1));
        let mut table = part.table.clone().unwrap();
        let (mut peers, mut revoked) = (std::mem::take(&mut table.peers), std::mem::take(&mut table.revoked));
        if number == 0 {
            whole = v1::ForwardingTable { version: 1, ..table };
        }
        whole.peers.append(&mut peers);
        whole.revoked.append(&mut revoked);
    }
    assert_eq!(whole, wanted.message());
}

#[test]
fn a_change_that_does_not_fit_is_answered_by_one_whole_table() {
    let mut publisher = TablePublisher::new(2);
    publish(&mut publisher, table(1, 3, &[]));
    publisher.offer(table(2, 4, &[]));
    assert_eq!(kinds(&[publisher.poll(at(0)).unwrap().unwrap()]), ["change"]);
    assert_eq!(publisher.answered(Err(Reason::DataplaneTableBase), at(0)), None);
    assert_eq!(kinds(&[publisher.poll(at(0)).unwrap().unwrap()]), ["whole"]);
    let refused = publisher.answered(Err(Reason::DataplaneTableBase), at(0));
    assert_eq!(refused, Some(Err(Reason::DataplaneTableBase)), "once");
    assert!(publisher.poll(at(0)).is_none());
}

#[test]
fn a_refused_table_waits_longer_each_time() {
    let mut publisher = TablePublisher::new(2);
    publisher.offer(table(1, 3, &[]));
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..9 {
        assert!(publisher.poll(now).is_some());
        assert_eq!(publisher.answered(Err(Reason::DataplaneTable), now), Some(Err(Reason::DataplaneTable)));
        let due = publisher.poll_timeout().unwrap();
        assert!(publisher.poll(Mono(due.0 - 1)).is_none());
        pauses.push(due.since(now).as_secs());
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    publisher.poll(now);
    publisher.answered(Ok(()), now);
    publisher.offer(table(2, 4, &[]));
    assert!(publisher.poll(now).is_some(), "what was taken ends the pauses");
}

#[test]
fn a_table_above_the_limit_is_refused_here_and_revocations_go_on() {
    let mut publisher = TablePublisher::new(2);
    publish(&mut publisher, table(1, 3, &[]));
    let most = u16::try_from(limits::TABLE_PEERS_MAX).unwrap();
    publisher.offer(table(2, most + 2, &[1]));
    assert_eq!(publisher.revoke().map(|command| command.revoked), Some(vec![revoked(1)]));
    assert_eq!(publisher.poll(at(0)), Some(Err(Reason::DataplaneTableTooLarge)));
    assert_eq!((publisher.poll(at(99)), publisher.poll_timeout()), (None, None), "said once, nothing sent");
    publisher.offer(table(3, most + 2, &[1, 2]));
    assert_eq!(publisher.revoke().map(|command| command.revoked), Some(vec![revoked(2)]));
    assert_eq!(publisher.revoke(), None);
}

#[test]
fn revocations_do_not_wait_for_a_table_under_way() {
    let mut publisher = TablePublisher::new(2);
    publisher.offer(table(1, 3, &[]));
    assert!(publisher.poll(at(0)).is_some());
    publisher.offer(table(2, 3, &[1]));
    assert!(publisher.poll(at(0)).is_none());
    assert_eq!(publisher.revoke().map(|command| command.revoked), Some(vec![revoked(1)]));
}

#[test]
fn many_revocations_go_in_commands_that_fit() {
    let all: Vec<u16> = (0..40_000).collect();
    let mut publisher = TablePublisher::new(2);
    publisher.offer(table(1, 0, &all));
    let mut told = 0;
    while let Some(command) = publisher.revoke() {
        assert!(command.encoded_len() < MESSAGE_ROOM);
        told += command.revoked.len();
    }
    assert_eq!(told, all.len());
}

#[test]
fn the_release_before_gets_revocations_of_a_table_that_is_too_large_with_the_one_in_force() {
    let mut publisher = TablePublisher::new(1);
    publish(&mut publisher, table(1, 3, &[]));
    publisher.offer(table(2, u16::try_from(limits::TABLE_PEERS_MAX_V1).unwrap() + 2, &[1]));
    assert_eq!(publisher.poll(at(0)), Some(Err(Reason::DataplaneTableTooLarge)));
    let Some(Ok(Body::Table(sent))) = publisher.poll(at(0)) else { panic!("the table in force again") };
    assert_eq!((sent.version, sent.peers.len(), sent.revoked), (2, 3, vec![revoked(1)]));
    assert_eq!(publisher.answered(Ok(()), at(0)), None);
    assert!(publisher.poll(at(0)).is_none());
}
