//! The floor of every measurement: libpcap reads a capture file, and nothing is done with the packets.
//!
//! `pcap_loop FILE` prints the number of packets and their bytes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: pcap_loop FILE")?;
    let mut capture = pcap::Capture::from_file(path)?;
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    loop {
        match capture.next_packet() {
            Ok(packet) => {
                packets += 1;
                bytes += u64::from(packet.header.caplen);
            }
            Err(pcap::Error::NoMorePackets) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!("{packets} packets, {bytes} bytes");
    Ok(())
}
