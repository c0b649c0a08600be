use super::collect::is_for_tests;

#[test]
fn what_only_tests_ask_for_is_for_tests() {
    let of = |condition: &str| {
        let item: syn::ItemFn = syn::parse_str(&format!("#[cfg({condition})] fn f() {{}}")).unwrap();
        is_for_tests(&item.attrs)
    };
    for condition in ["test", "any(test, feature = \"testing\")", "all(unix, feature = \"reference\")"] {
        assert!(of(condition), "{condition}");
    }
    for condition in
        ["unix", "not(test)", "any(unix, test)", "feature = \"command_line\"", "not(feature = \"testing\")"]
    {
        assert!(!of(condition), "{condition}");
    }
}
