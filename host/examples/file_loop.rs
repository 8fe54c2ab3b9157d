//! podtap's own reader of capture files, and nothing done with the packets: to be compared with `pcap_loop`.
//!
//! `file_loop FILE` prints the number of packets and their bytes.

use podtap::capture::CaptureFile;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: file_loop FILE")?;
    let mut file = CaptureFile::open(path.as_ref())?;
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    while let Some(record) = file.next_record()? {
        packets += 1;
        bytes += record.data.len() as u64;
    }
    println!("{packets} packets, {bytes} bytes");
    Ok(())
}
