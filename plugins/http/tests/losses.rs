//! What is made of a conversation that was captured in parts: each exchange is reported as it was, or by halves, or not
//! at all. Never is a response given to another's request.

use podtap_http::Http;
use podtap_sdk::testing::{Conversation, Cut};
use proptest::prelude::*;

/// Request number n asks for `/n`, and its response has a body of n bytes: so a wrong pair shows.
fn request(number: usize) -> String {
    format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn response(number: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\n{}", "x".repeat(number))
}

/// Outcome, and what `/n` and the body's size say, of each exchange.
fn exchanges(conversation: &Conversation) -> Vec<(String, Option<usize>, Option<usize>)> {
    let lines = conversation.cut::<Http>(Cut::Whole);
    let value = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split(' ').next()?.parse().ok()
    };
    lines
        .iter()
        .map(|line| {
            let outcome = line.split(' ').next().unwrap_or_default().to_owned();
            (outcome, value(line, " url.path=/"), value(line, " http.response.body.size="))
        })
        .collect()
}

/// A part of a conversation: who sends what.
#[derive(Clone, Debug)]
enum Part {
    Client(String),
    Server(String),
    /// So many bytes that were not captured.
    ClientGap(u32),
    ServerGap(u32),
}

fn conversation(parts: &[Part]) -> Conversation {
    let all = parts.iter().fold(Conversation::new(), |all, part| match part {
        Part::Client(text) => all.client(text),
        Part::Server(text) => all.server(text),
        Part::ClientGap(length) => all.client_gap(*length),
        Part::ServerGap(length) => all.server_gap(*length),
    });
    all.client_end().server_end().close()
}

/// `r1` asks, `a1` answers, `-r1` and `-a1` were lost, `r1,r2` came in one segment.
#[track_caller]
fn check(script: &str, expected: &str) {
    let parts: Vec<_> = script
        .split_whitespace()
        .map(|word| {
            let (lost, word) = word.strip_prefix('-').map_or((false, word), |word| (true, word));
            let number = |item: &str| item[1..].parse().expect("a number");
            let of = |make: fn(usize) -> String| word.split(',').map(|item| make(number(item))).collect::<String>();
            match (word.as_bytes()[0], lost) {
                (b'r', false) => Part::Client(of(request)),
                (b'r', true) => Part::ClientGap(of(request).len() as u32),
                (_, false) => Part::Server(of(response)),
                (_, true) => Part::ServerGap(of(response).len() as u32),
            }
        })
        .collect();
    let found: Vec<_> = exchanges(&conversation(&parts))
        .iter()
        .map(|(outcome, request, response)| match (request, response) {
            (Some(request), Some(response)) if request == response && outcome == "ok" => format!("{request}"),
            (Some(request), None) => format!("r{request}"),
            (None, Some(response)) => format!("a{response}"),
            wrong => format!("{outcome} {wrong:?}"),
        })
        .collect();
    assert_eq!(found.join(" "), expected, "{script}");
}

#[test]
fn a_client_that_asks_again_has_been_answered() {
    check("r1 -a1 r2 a2 r3 a3", "r1 2 3");
    check("r1 a1 -r2 a2 r3 a3", "1 a2 3");
    check("r1 a1 -r2 -a2 r3 a3 r4 a4", "1 a3 r3 4");
    // Both were behind the loss when it was noticed.
    check("r1 a1 -r2 -a2 -a3 r3 r4 a4 r5 a5", "1 r3 a4 r4 5");
}

#[test]
fn with_losses_on_both_sides_no_response_is_taken_for_another() {
    check("r1 -a1 -r2 a2 r3 a3", "r1 a2 3");
    check("r1 -r2 -a1 a2 r3 a3", "r1 a2 3");
}

#[test]
fn a_response_that_comes_while_the_next_request_is_cut_is_not_taken_for_the_one_that_was_lost() {
    let (second, first_half) = (request(2), request(2).len() / 2);
    let parts = [
        Part::Client(request(1)),
        Part::ServerGap(response(1).len() as u32),
        Part::Client(second[..first_half].to_owned()),
        // That the rest of the second request is missing shows only behind this.
        Part::Server(response(2)),
        Part::ClientGap((second.len() - first_half) as u32),
        Part::Client(request(3)),
        Part::Server(response(3)),
        Part::Client(request(4)),
        Part::Server(response(4)),
    ];
    let found = exchanges(&conversation(&parts));
    let pairs: Vec<_> = found.iter().map(|(_, request, response)| (*request, *response)).collect();
    assert_eq!(
        pairs,
        [(Some(1), None), (None, Some(2)), (None, Some(3)), (Some(3), None), (Some(4), Some(4))],
        "{found:?}"
    );
}

#[test]
fn order_of_pipelined_requests_is_lost_until_the_client_asks_again() {
    check("r1,r2,r3 a1 -a2 a3 r4,r5 a4 a5", "1 r2 r3 a3 4 5");
    check("r1,r2,r3 a1,a2,a3 -r4,r5 a4 a5 r6,r7 a6 a7", "1 2 3 a4 a5 6 7");
    check("r1,r2 -a1 a2 -r3,r4 a3 a4 r5 a5", "r1 r2 a2 a3 a4 5");
}

#[test]
fn requests_from_before_a_loss_are_answered_in_order() {
    check("r1,r2 -r3 r4 a1 a2 a3 a4 r5 a5", "1 2 a3 a4 r4 5");
}

#[test]
fn a_client_that_does_not_wait_for_answers_proves_nothing_by_asking() {
    // One request is always under way, so asking again says nothing of what was answered.
    check("r1 r2 a1 r3 a2 r4 -a3 r5 a4 r6 a5 a6", "1 2 r3 r4 a4 r5 a5 a6 r6");
    // But when as many responses have come as can have been due, there is nothing under way.
    check("r1 r2 a1 r3 a2 r4 a3 -r5 a4 a5 r6 a6", "1 2 3 4 a5 a6 r6");
}

#[test]
fn requests_that_are_too_many_to_wait_do_not_shift_the_others() {
    let count = podtap_sdk::MAX_WAITING + 2;
    let mut parts: Vec<_> = (1..=count).map(|number| Part::Client(request(number))).collect();
    parts.extend((1..=count).map(|number| Part::Server(response(number))));
    let found = exchanges(&conversation(&parts));
    assert_eq!(found.iter().filter(|(outcome, ..)| outcome == "ok").count(), podtap_sdk::MAX_WAITING);
    assert!(found.iter().all(|(_, request, response)| request.is_none() || response.is_none() || request == response));
}

/// A client that waits for all answers before it asks again: its turns, each with so many requests. Each request, each
/// response is a segment, or all of a turn are.
fn turns() -> impl Strategy<Value = Vec<Vec<Part>>> {
    prop::collection::vec((1_usize..6, any::<bool>(), any::<bool>()), 1..12).prop_map(|turns| {
        let mut next = 1;
        turns
            .into_iter()
            .map(|(count, requests_joined, responses_joined)| {
                let numbers = next..next + count;
                next += count;
                let of = |make: fn(usize) -> String, part: fn(String) -> Part, joined| {
                    let each: Vec<_> = numbers.clone().map(make).collect();
                    if joined { vec![part(each.concat())] } else { each.into_iter().map(part).collect() }
                };
                let requests = of(request, Part::Client, requests_joined);
                requests.into_iter().chain(of(response, Part::Server, responses_joined)).collect()
            })
            .collect()
    })
}

/// The parts with those lost whose turn it is; the first `keep` stay.
fn lose(parts: Vec<Part>, lost: &[bool], keep: usize) -> Vec<Part> {
    let lost = std::iter::repeat_n(&false, keep).chain(lost.iter().cycle());
    parts
        .into_iter()
        .zip(lost)
        .map(|(part, lost)| match part {
            Part::Client(text) if *lost => Part::ClientGap(text.len() as u32),
            Part::Server(text) if *lost => Part::ServerGap(text.len() as u32),
            part => part,
        })
        .collect()
}

/// Nothing that is reported is made up: numbers are of the conversation, and pairs are pairs.
fn assert_true(found: &[(String, Option<usize>, Option<usize>)], count: usize) -> Result<(), TestCaseError> {
    let mut seen = std::collections::HashSet::new();
    for (outcome, request, response) in found {
        if let (Some(request), Some(response)) = (request, response) {
            prop_assert_eq!(request, response, "a wrong pair in {:?}", found);
        }
        prop_assert_eq!(outcome == "ok", request.is_some() && response.is_some(), "{:?}", found);
        for (side, number) in [(0, request), (1, response)] {
            if let Some(number) = number {
                prop_assert!((1..=count).contains(number), "{:?}", found);
                prop_assert!(seen.insert((side, *number)), "{} is there twice in {:?}", number, found);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn whatever_is_lost_no_pair_is_wrong(turns in turns(), lost in prop::collection::vec(prop::bool::weighted(0.2), 60)) {
        let count = turns.iter().flatten().map(requests_in).sum();
        let parts = lose(turns.concat(), &lost, 0);
        assert_true(&exchanges(&conversation(&parts)), count)?;
    }

    #[test]
    fn wherever_segments_are_cut_and_lost_no_pair_is_wrong(
        turns in turns(),
        sizes in prop::collection::vec(1_usize..60, 1..8),
        lost in prop::collection::vec(prop::bool::weighted(0.1), 60),
    ) {
        let count = turns.iter().flatten().map(requests_in).sum();
        let mut sizes = sizes.into_iter().cycle();
        let parts = turns.concat().into_iter().flat_map(|part| segments(part, &mut sizes)).collect();
        assert_true(&exchanges(&conversation(&lose(parts, &lost, 0))), count)?;
    }

    #[test]
    fn a_loss_is_over_with_the_second_turn_after_it(turns in turns(), lost in prop::collection::vec(prop::bool::weighted(0.2), 60)) {
        let mut turns = turns;
        let last = turns.pop().unwrap_or_default();
        let first = turns.pop().unwrap_or_default();
        let before: usize = turns.iter().flatten().chain(&first).map(requests_in).sum();
        let mut parts = lose(turns.concat(), &lost, 0);
        // Two turns that nothing is lost of.
        parts.extend(first);
        parts.extend(last.clone());
        let found = exchanges(&conversation(&parts));
        for number in before + 1..=before + last.iter().map(requests_in).sum::<usize>() {
            prop_assert!(found.contains(&("ok".into(), Some(number), Some(number))), "{} is not in {:?}", number, found);
        }
    }

    #[test]
    fn a_client_that_never_waits_is_not_paired_wrongly_either(
        count in 3_usize..40,
        window in 2_usize..6,
        lost in prop::collection::vec(prop::bool::weighted(0.15), 60),
    ) {
        // So many requests are under way, and each answer brings the next.
        let window = window.min(count);
        let mut parts: Vec<_> = (1..=window).map(|number| Part::Client(request(number))).collect();
        for number in 1..=count {
            parts.push(Part::Server(response(number)));
            if number + window <= count {
                parts.push(Part::Client(request(number + window)));
            }
        }
        // That it does not wait is seen before anything is lost.
        let parts = lose(parts, &lost, window + 2);
        assert_true(&exchanges(&conversation(&parts)), count)?;
    }
}

/// The part in segments of these sizes.
fn segments(part: Part, sizes: &mut impl Iterator<Item = usize>) -> Vec<Part> {
    let (mut text, make): (_, fn(String) -> Part) = match part {
        Part::Client(text) => (text, Part::Client),
        Part::Server(text) => (text, Part::Server),
        gap => return vec![gap],
    };
    let mut segments = Vec::new();
    while !text.is_empty() {
        let rest = text.split_off(sizes.next().unwrap_or(1).min(text.len()));
        segments.push(make(std::mem::replace(&mut text, rest)));
    }
    segments
}

fn requests_in(part: &Part) -> usize {
    match part {
        Part::Client(text) => text.matches("GET ").count(),
        _ => 0,
    }
}
