//! What is large costs no memory: rows are passed over, of statements a beginning is kept.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use podtap_mysql::MySql;
use podtap_sdk::{Batch, Instance, OpenedConnection};
use support::*;

/// Counts what is allocated, and the most of it at a time.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What podtap hands over in a call, at most.
const BATCH: usize = 64 * 1024;

const MAX: usize = 0xff_ffff;

/// Feeds a login and then the steps (from the server?, bytes) in batches, without leaving anything out; the exchanges of
/// the steps, and the most memory that was held beyond one batch.
fn feed(steps: &[(bool, &[u8])]) -> (usize, usize) {
    let capabilities = USUAL | DEPRECATE_EOF;
    let (hello, login, accepted) = (greeting("8.0.36", capabilities), login(capabilities), ok(2));
    let all = [(true, &hello[..]), (false, &login[..]), (true, &accepted[..])];
    let mut instance = Instance::<MySql>::new("{}").expect("a configuration");
    let mut opened = vec![OpenedConnection {
        id: 0,
        client_address: String::new(),
        client_port: 1,
        server_address: String::new(),
        server_port: 2,
        midstream: false,
    }];
    let (before, mut exchanges, mut positions) = (NOW.load(Ordering::Relaxed), 0, [0_u64; 2]);
    MOST.store(before, Ordering::Relaxed);
    for (from_server, bytes) in all.into_iter().chain(steps.iter().copied()) {
        for piece in bytes.chunks(BATCH) {
            let position = &mut positions[usize::from(from_server)];
            let output = instance.feed(Batch {
                opened: std::mem::take(&mut opened),
                connections: vec![0],
                kinds: vec![if from_server { 128 } else { 0 }],
                times: vec![1],
                positions: vec![*position],
                lengths: vec![piece.len() as u32],
                data: piece.to_vec(),
            });
            *position += piece.len() as u64;
            exchanges += output.outcomes.len();
            assert_eq!(output.undecoded_bytes, 0);
        }
    }
    (exchanges - 1, MOST.load(Ordering::Relaxed) - before - BATCH)
}

/// One test, for what others allocate meanwhile would be counted, too.
#[test]
fn what_is_large_costs_less_than_a_mebibyte() {
    let row = {
        // 40 MB in a row: its length in 9 bytes, then packets of 16 MiB - 1, the last one shorter.
        let mut payload = vec![0xfe];
        payload.extend_from_slice(&40_000_000_u64.to_le_bytes());
        payload.resize(40_000_009, b'x');
        let packets_of_row = payload.chunks(MAX).collect::<Vec<_>>();
        let mut bytes = packets(1, [vec![1], definition("a")]);
        bytes.extend(packets(3, &packets_of_row));
        bytes.extend(packets(6, [end_payload(true, 2)]));
        bytes
    };
    let statement = {
        let mut payload = b"\x03INSERT INTO t VALUES ('".to_vec();
        payload.resize(17_000_000, b'x');
        payload.extend_from_slice(b"')");
        packets(0, payload.chunks(MAX))
    };
    let many = packets(1, result(true, &vec!["a value of some length"; 100_000], 2));
    let select = query("SELECT a FROM t");
    for (name, request, response) in [
        ("a row of 40 MB", &select, &row),
        ("a statement of 17 MB", &statement, &packet(2, ok_payload(1, 0, 2, 0))),
        ("a result of 100,000 rows", &select, &many),
    ] {
        let (exchanges, bytes) = feed(&[(false, request), (true, response)]);
        assert_eq!(exchanges, 1, "{name}");
        eprintln!("{name}: {bytes} bytes");
        assert!(bytes < 1 << 20, "{name}: {bytes} bytes");
    }
}
