//! What stands in the memory of a guest: made from an input, and read by hand.
//!
//! Layout by the Canonical ABI: a list is an address and a number of elements, a record its fields in order, each at a
//! multiple of its alignment (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md>).

use crate::script::Script;

/// Where the guest puts it (`guest.wat`), and how much of it.
pub(crate) const BASE: u32 = 65_536;
pub(crate) const MAX_BYTES: usize = 60_000;
/// Memory of the guest.
pub(crate) const MEMORY: u64 = 64 * 65_536;
/// What the guest is told to do.
const HEADER: usize = 16;
/// Of what an honest output has of texts, all together.
const MAX_HONEST_TEXT: usize = 40_000;

/// Elements of the lists of `output`, in the order of the contract.
pub(crate) const OUTPUT: [usize; 13] = [4, 1, 1, 8, 8, 4, 2, 2, 8, 1, 4, 1, 8];
/// The lists, and `undecoded-bytes` behind them.
const OUTPUT_BYTES: usize = OUTPUT.len() * 8 + 8;

/// See the module.
pub(crate) struct Image(pub(crate) Vec<u8>);

/// Where a list lies.
pub(crate) enum Place {
    /// In the image, at this place.
    Here(usize),
    /// In memory that is not known.
    Unknown,
    /// Where no list may lie.
    Outside,
}

impl Image {
    /// An image that answers with what stands behind its header.
    fn new(armed: bool) -> Image {
        let mut bytes = vec![0; HEADER];
        bytes[1] = if armed { 2 } else { 0 };
        bytes[4..8].copy_from_slice(&(BASE + HEADER as u32).to_le_bytes());
        Image(bytes)
    }

    /// Takes changes off the input: of an address and a length, or of a byte, anywhere.
    pub(crate) fn twist(&mut self, twists: &[u8]) {
        let mut script = Script::new(twists);
        while !script.is_over() {
            let operation = script.u8();
            let field = HEADER + usize::from(operation & 0x1f) * 8;
            match operation >> 5 {
                0 => self.put(field, &script.u32().to_le_bytes()),
                1 => self.put(field + 4, &script.u32().to_le_bytes()),
                // Within the image, or near its end.
                2 => self.put(field, &(BASE + u32::from(script.u16())).to_le_bytes()),
                3 => self.put(field + 4, &u32::from(script.u16()).to_le_bytes()),
                4 => self.put(usize::from(operation & 0x0f), &[script.u8()]),
                5 => self.put(8, &[script.u32().to_le_bytes(), script.u32().to_le_bytes()].concat()),
                _ => {
                    let place = usize::from(script.u16());
                    self.put(place, &[script.u8()]);
                }
            }
        }
    }

    fn put(&mut self, place: usize, bytes: &[u8]) {
        if let Some(there) = self.0.get_mut(place..place + bytes.len()) {
            there.copy_from_slice(bytes);
        }
    }

    /// Appends a list and notes it in the record at `field`.
    fn list(&mut self, field: usize, elements: &[u8], size: usize) {
        // No element is aligned to more.
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let address = BASE + self.0.len() as u32;
        self.0.extend_from_slice(elements);
        self.put(field, &address.to_le_bytes());
        self.put(field + 4, &((elements.len() / size) as u32).to_le_bytes());
    }

    /// Is there room for so much more, and for what aligns it?
    fn has_room(&self, bytes: usize) -> bool {
        self.0.len() + bytes + 8 * OUTPUT.len() < MAX_BYTES
    }

    fn u32(&self, place: usize) -> u32 {
        self.0.get(place..place + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four of them")))
    }

    /// Where something of this length and alignment lies that begins at an address.
    fn place(&self, address: u32, bytes: u64, alignment: u32) -> Place {
        let end = u64::from(address) + bytes;
        if !address.is_multiple_of(alignment) || end > MEMORY {
            return Place::Outside;
        }
        match address.checked_sub(BASE) {
            Some(start) if end - u64::from(BASE) <= self.0.len() as u64 => Place::Here(start as usize),
            _ => Place::Unknown,
        }
    }

    /// Where the answer begins.
    pub(crate) fn answer(&self, bytes: usize, alignment: u32) -> Place {
        self.place(self.u32(4), bytes as u64, alignment)
    }

    /// Bytes of a list whose address stands at `field`.
    pub(crate) fn elements(&self, field: usize, size: usize) -> Result<&[u8], Place> {
        let bytes = u64::from(self.u32(field + 4)) * size as u64;
        match self.place(self.u32(field), bytes, size as u32) {
            Place::Here(start) => Ok(&self.0[start..start + bytes as usize]),
            elsewhere => Err(elsewhere),
        }
    }

    /// Does the guest write a log line?
    pub(crate) fn logs(&self) -> bool {
        self.0[1] & 1 != 0
    }

    /// Do `describe` and `configure` answer with it?
    pub(crate) fn is_armed(&self) -> bool {
        self.0[1] & 2 != 0
    }

    /// The lists of an output, in the order of the contract, and its undecoded bytes.
    pub(crate) fn output(&self) -> Result<(Vec<&[u8]>, u64), Place> {
        let start = match self.answer(OUTPUT_BYTES, 8) {
            Place::Here(start) => start,
            elsewhere => return Err(elsewhere),
        };
        let lists = OUTPUT.iter().enumerate().map(|(index, &size)| self.elements(start + index * 8, size));
        // What cannot be read at all is so wherever else something is unknown.
        let (mut read, mut unknown) = (Vec::new(), false);
        for list in lists {
            match list {
                Ok(list) => read.push(list),
                Err(Place::Outside) => return Err(Place::Outside),
                Err(_) => unknown = true,
            }
        }
        if unknown {
            return Err(Place::Unknown);
        }
        let undecoded = start + OUTPUT.len() * 8;
        Ok((read, u64::from(self.u32(undecoded)) | u64::from(self.u32(undecoded + 4)) << 32))
    }
}

/// An output that adds up, or nearly so: what is rare in the input breaks a rule.
pub(crate) fn output(script: &mut Script<'_>) -> Image {
    let mut image = Image::new(false);
    image.0.resize(HEADER + OUTPUT_BYTES, 0);
    let mut columns: [Vec<u8>; 13] = Default::default();
    let rare = |byte: u8, usual: u8| if byte < 250 { byte % usual } else { byte };
    let (mut texts, mut exchanges, demands) = (0, script.u8() % 33, script.u8() % 9);
    let text = |byte: u8, texts: &mut usize| {
        let length = if byte < 250 { usize::from(byte) } else { usize::from(byte - 249) * 5_000 };
        let length = length.min(MAX_HONEST_TEXT - *texts);
        *texts += length;
        length as u64
    };
    while exchanges > 0 {
        exchanges -= 1;
        columns[0].extend(u32::from(script.u8() & 3).to_le_bytes());
        columns[1].push(rare(script.u8(), 1));
        columns[2].push(rare(script.u8(), 5));
        (0..4).for_each(|_| columns[3].extend((u64::from(script.u8()) * 1_000_000).to_le_bytes()));
        (0..3).for_each(|_| columns[4].extend(u64::from(script.u8()).to_le_bytes()));
        (0..3).for_each(|_| columns[5].extend((text(script.u8(), &mut texts) as u32).to_le_bytes()));
        let attributes = rare(script.u8(), 6);
        columns[6].extend(u16::from(attributes).to_le_bytes());
        for _ in 0..attributes {
            let id = rare(script.u8(), 5);
            let value = if id == 0 { text(script.u8(), &mut texts) } else { u64::from(script.u32()) << 32 | 1 };
            columns[7].extend(u16::from(id).to_le_bytes());
            columns[8].extend(value.to_le_bytes());
        }
    }
    for _ in 0..demands {
        columns[10].extend(u32::from(script.u8() & 3).to_le_bytes());
        columns[11].push(rare(script.u8(), 3) | script.u8() & 0x80);
        columns[12].extend(u64::from(script.u32()).to_le_bytes());
    }
    let undecoded = script.u8();
    let pattern = match script.slice_of_u8() {
        [] => b"text",
        pattern => pattern,
    };
    // Copied at once: byte by byte, each is a comparison that libFuzzer looks at.
    columns[9] = pattern.repeat(texts.div_ceil(pattern.len()));
    columns[9].truncate(texts);
    for (index, (column, size)) in columns.iter().zip(OUTPUT).enumerate() {
        if image.has_room(column.len()) {
            image.list(HEADER + index * 8, column, size);
        }
    }
    image.put(HEADER + OUTPUT.len() * 8, &[undecoded]);
    image
}

/// What a plugin may say of itself.
pub(crate) fn descriptor(script: &mut Script<'_>) -> Image {
    /// Lists, and the status behind them; of an attribute, name, kind and doc.
    const BYTES: usize = 6 * 8 + 4;
    const ATTRIBUTE: usize = 20;
    let mut image = Image::new(true);
    image.0.resize(HEADER + BYTES, 0);
    for field in 0..3 {
        image.list(HEADER + field * 8, script.slice_of_u8(), 1);
    }
    let status = script.u16().to_le_bytes();
    image.put(HEADER + 6 * 8, &[script.u8(), 0, status[0], status[1]]);
    let protocols = usize::from(script.u8() % 20);
    image.list(HEADER + 3 * 8, &vec![0; protocols * 8], 8);
    let first = image.0.len() - protocols * 8;
    for index in 0..protocols {
        image.list(first + index * 8, script.slice_of_u8(), 1);
    }
    let ports = script.slice_of_u8();
    image.list(HEADER + 4 * 8, &ports[..ports.len() & !1], 2);
    let attributes = usize::from(script.u16() % 300);
    image.list(HEADER + 5 * 8, &vec![0; attributes * ATTRIBUTE], ATTRIBUTE);
    let first = image.0.len() - attributes * ATTRIBUTE;
    for at in (0..attributes).map(|index| first + index * ATTRIBUTE) {
        let (name, doc) = (script.slice_of_u8(), script.slice_of_u8());
        // Where the input is over, they are numbered.
        let number = at.to_string();
        image.list(at, if name.is_empty() { number.as_bytes() } else { name }, 1);
        image.put(at + 8, &[script.u8() % 5]);
        image.list(at + 12, doc, 1);
        if !image.has_room(0) {
            break;
        }
    }
    image.0.truncate(MAX_BYTES);
    image
}

/// An answer to `configure`.
pub(crate) fn refusal(script: &mut Script<'_>) -> Image {
    let mut image = Image::new(true);
    image.0.resize(HEADER + 12, 0);
    image.put(HEADER, &[script.u8() % 3]);
    image.list(HEADER + 4, script.slice_of_u16(), 1);
    image
}
