//! The published messages change only by addition: every field and method of the committed list is
//! still there, unchanged, and the list names everything there is.
//!
//! `RAP_WRITE_DESCRIPTORS=1 cargo test -p rap-wire --test additions_only` adds new lines to the list.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/descriptors.txt");

fn published() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(rap_wire::DESCRIPTORS).unwrap();
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == "rap.fabric.v1") {
        file.message_type.iter().for_each(|message| fields(message, message.name(), &mut lines));
        file.enum_type.iter().for_each(|values| variants(values, values.name(), &mut lines));
        for service in &file.service {
            for method in &service.method {
                let stream = |streams| if streams { "stream " } else { "" };
                lines.insert(format!(
                    "{}.{}({}{}) -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type()
                ));
            }
        }
    }
    lines
}

fn fields(message: &DescriptorProto, path: &str, lines: &mut BTreeSet<String>) {
    for field in &message.field {
        let kind =
            if field.type_name().is_empty() { field.r#type().as_str_name() } else { field.type_name() };
        let label = field.label().as_str_name();
        lines.insert(format!("{path}.{} = {} {label} {kind}", field.name(), field.number()));
    }
    for nested in &message.nested_type {
        fields(nested, &format!("{path}.{}", nested.name()), lines);
    }
    for values in &message.enum_type {
        variants(values, &format!("{path}.{}", values.name()), lines);
    }
}

fn variants(values: &EnumDescriptorProto, path: &str, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!("{path}.{} = {}", value.name(), value.number()));
    }
}

#[test]
fn every_published_field_and_method_stays_as_it_was() {
    let published = published();
    let committed: BTreeSet<String> =
        std::fs::read_to_string(LIST).unwrap_or_default().lines().map(str::to_owned).collect();
    let changed: Vec<_> = committed.difference(&published).collect();
    assert!(changed.is_empty(), "changed or removed: {changed:#?}");
    if std::env::var_os("RAP_WRITE_DESCRIPTORS").is_some() {
        let text: String = published.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(LIST, text).unwrap();
        return;
    }
    let added: Vec<_> = published.difference(&committed).collect();
    assert!(added.is_empty(), "not in the list yet: {added:#?}");
    assert!(committed.len() > 100);
}
