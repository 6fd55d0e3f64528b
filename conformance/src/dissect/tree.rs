//! Turns readings, in their order, into named and nested fields.

use hypercore_protocol::encoding::{Reading, ReadingKind};

use super::{Field, KEPT_BYTES, meaning};

/// The fields of `message` in `bytes`, which begin at `base` of the shown bytes.
pub(super) fn build(message: &str, bytes: &[u8], base: usize, readings: &[Reading]) -> Vec<Field> {
    let mut tree = Tree::default();
    for reading in readings {
        let at = base + reading.offset;
        match reading.kind {
            ReadingKind::Item => {
                tree.close_item(at);
                tree.open_item(reading.field, at);
            }
            ReadingKind::ItemsEnd => {
                tree.close_item(at);
                tree.arrays.pop();
            }
            kind => {
                tree.end = at + reading.length;
                let part = &bytes[reading.offset..reading.offset + reading.length];
                let mut field = leaf(name_of(message, reading), at, part, "");
                meaning::explain(message, reading, part, &mut field);
                tree.push(field);
                if let ReadingKind::Count(_) = kind {
                    tree.arrays.push(Array::default());
                }
            }
        }
    }
    // Items cut short by an error.
    while !tree.arrays.is_empty() {
        let end = tree.end;
        tree.close_item(end);
        tree.arrays.pop();
    }
    tree.fields
}

/// A field without parts.
pub(crate) fn leaf(name: impl Into<String>, offset: usize, bytes: &[u8], meaning: &str) -> Field {
    Field {
        name: name.into(),
        offset,
        length: bytes.len(),
        hex: Some(short_hex(bytes)),
        meaning: meaning.into(),
        ..Field::default()
    }
}

fn short_hex(bytes: &[u8]) -> String {
    match bytes.get(..KEPT_BYTES) {
        Some(kept) if bytes.len() > KEPT_BYTES => hex::encode(kept) + "…",
        _ => hex::encode(bytes),
    }
}

fn name_of(message: &str, reading: &Reading) -> String {
    match (reading.kind, reading.field) {
        (ReadingKind::Length(_), field) => format!("{field}.length"),
        (ReadingKind::Count(_), field) => format!("{field}.count"),
        // The rest of an extension is the application's message; of an open, the protocol's handshake.
        (_, "") if message == "extension" => "message".into(),
        (_, "") => "handshake".into(),
        (_, field) => field.into(),
    }
}

#[derive(Default)]
struct Tree {
    fields: Vec<Field>,
    arrays: Vec<Array>,
    end: usize,
}

/// An array whose items are being read.
#[derive(Default)]
struct Array {
    items: usize,
    item: Option<Field>,
}

impl Tree {
    fn push(&mut self, field: Field) {
        let item = self
            .arrays
            .iter_mut()
            .rev()
            .find_map(|array| array.item.as_mut());
        match item {
            Some(item) => item.fields.push(field),
            None => self.fields.push(field),
        }
    }

    fn open_item(&mut self, name: &str, offset: usize) {
        if let Some(array) = self.arrays.last_mut() {
            array.item = Some(Field {
                name: format!("{name}[{}]", array.items),
                offset,
                ..Field::default()
            });
            array.items += 1;
        }
    }

    fn close_item(&mut self, end: usize) {
        let Some(mut item) = self.arrays.last_mut().and_then(|array| array.item.take()) else {
            return;
        };
        item.length = end - item.offset;
        // An item that is a bare value gets the array's name.
        if let [only] = item.fields.as_mut_slice()
            && item.name.strip_prefix(only.name.as_str()).is_some()
        {
            let name = std::mem::take(&mut item.name);
            item = std::mem::take(only);
            item.name = name;
        }
        self.push(item);
    }
}
