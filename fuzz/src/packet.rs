//! One packet of any link type.

use podtap_stream::{Engine, Limits, LinkType, Packet};

use crate::checker::Checker;
use crate::script::Script;

/// Link types that an input names by their place here; any other takes 4 bytes more. It includes some that were never
/// read, and the numbers that DLT_RAW has by system.
pub(crate) const LINK_TYPES: [u32; 20] =
    [1, 0, 12, 14, 101, 108, 113, 228, 229, 276, 9, 105, 50, 51, 239, 147, 104, 166, 204, 258];

/// Gives the engine one packet twice, and ends the capture. No packet breaks it, and both are counted.
///
/// An input begins with the place of a link type in a list, or a byte beyond it and a number. Then comes by how much
/// the packet was longer on the wire: 0, or a byte that says in how many bytes that follows. The rest is the packet.
pub fn packet(input: &[u8]) {
    let mut script = Script::new(input);
    let number = match LINK_TYPES.get(usize::from(script.u8())) {
        Some(&number) => number,
        None => script.u32(),
    };
    let longer = match script.u8() {
        0 => 0,
        1 => u32::from(script.u16()),
        _ => script.u32(),
    };
    let data = script.rest();
    let original_len = (data.len() as u32).wrapping_add(longer);
    let limits = Limits::default();
    let mut engine = Engine::new(limits);
    let mut checker = Checker::new(limits, None);
    for time_ns in [1_000, 2_000] {
        checker.latest_ns = time_ns;
        let link_type = LinkType::from_number(number);
        engine.packet(&Packet { link_type, time_ns, data, original_len }, &mut checker);
        checker.check(engine.counters());
    }
    engine.finish(&mut checker);
    checker.check_finished(engine.counters());
    assert_eq!(engine.counters().packets, 2);
}
