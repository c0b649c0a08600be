//! Every path that an item writes: in `use` lines, signatures, bodies, attributes and inside macros. Owns telling test
//! code from shipped code; resolves nothing.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Import, PathUse, Place};

/// What one item writes.
pub struct Collected {
    /// `use` lines in it.
    pub imports: Vec<Import>,
    /// Paths written in place.
    pub paths: Vec<PathUse>,
    /// True if it is compiled for tests only.
    pub test: bool,
    /// First and last lines of what is compiled for tests only.
    pub test_lines: Vec<(usize, usize)>,
}

/// Walks one item that is no module. `test` tells whether its module is compiled for tests only.
pub fn collect(item: &syn::Item, test: bool) -> Collected {
    let mut collector = Collector {
        imports: Vec::new(),
        paths: Vec::new(),
        test_lines: Vec::new(),
        test,
        place: Place::Interface,
        within: name(item),
    };
    collector.visit_item(item);
    let test = test || is_for_tests(attributes(item));
    let Collector { imports, paths, test_lines, .. } = collector;
    Collected { imports, paths, test, test_lines }
}

/// Features of what only tests use. No dependency but a dev-dependency may ask for one.
pub const TEST_FEATURES: [&str; 2] = ["reference", "testing"];

/// True for `#[cfg(test)]` and what implies it, for features that only tests ask for, and for `#[test]` functions.
pub fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_test = attribute.path().segments.last().is_some_and(|segment| segment.ident == "test");
        is_test || (attribute.path().is_ident("cfg") && asks_for_test(&attribute.meta))
    })
}

fn asks_for_test(meta: &syn::Meta) -> bool {
    match meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("not") => false,
        syn::Meta::List(list) => {
            let parser = syn::punctuated::Punctuated::<syn::Meta, syn::Token![,]>::parse_terminated;
            let all = list.path.is_ident("all");
            list.parse_args_with(parser).is_ok_and(|inner| {
                if all { inner.iter().any(asks_for_test) } else { inner.iter().all(asks_for_test) }
            })
        }
        syn::Meta::NameValue(pair) => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(name), .. }) => {
                pair.path.is_ident("feature") && TEST_FEATURES.contains(&name.value().as_str())
            }
            _ => false,
        },
    }
}

/// From where the names of a `use` line can be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Here,
    Inside,
    Everywhere,
}

struct Collector {
    imports: Vec<Import>,
    paths: Vec<PathUse>,
    test_lines: Vec<(usize, usize)>,
    test: bool,
    place: Place,
    within: String,
}

impl Collector {
    fn push(&mut self, segments: Vec<String>, line: usize) {
        self.paths.push(PathUse {
            segments,
            line,
            test: self.test,
            within: self.within.clone(),
            place: self.place,
        });
    }

    /// Walks with the mark of test code, if the attributes set it.
    fn marked(&mut self, attributes: &[syn::Attribute], whole: &impl Spanned, walk: impl FnOnce(&mut Self)) {
        let before = self.test;
        self.test = before || is_for_tests(attributes);
        if self.test && !before {
            let span = whole.span();
            self.test_lines.push((span.start().line, span.end().line));
        }
        walk(self);
        self.test = before;
    }

    fn in_place(&mut self, place: Place, walk: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.place, place);
        walk(self);
        self.place = before;
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String], seen: Seen) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident), seen),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before, seen);
                }
            }
            syn::UseTree::Name(name) if name.ident == "self" && !before.is_empty() => {
                let known_as = before.last().cloned();
                self.import(before.to_vec(), known_as, false, seen, name.ident.span());
            }
            syn::UseTree::Name(name) => {
                let known_as = Some(name.ident.to_string());
                self.import(with(&name.ident), known_as, false, seen, name.ident.span());
            }
            syn::UseTree::Rename(rename) => {
                let own = rename.ident == "self" && !before.is_empty();
                let path = if own { before.to_vec() } else { with(&rename.ident) };
                let known_as = (rename.rename != "_").then(|| rename.rename.to_string());
                self.import(path, known_as, false, seen, rename.ident.span());
            }
            syn::UseTree::Glob(glob) => {
                self.import(before.to_vec(), None, true, seen, glob.star_token.spans[0]);
            }
        }
    }

    fn import(
        &mut self,
        segments: Vec<String>,
        name: Option<String>,
        glob: bool,
        seen: Seen,
        span: proc_macro2::Span,
    ) {
        let (line, test, within) = (span.start().line, self.test, self.within.clone());
        let path = PathUse { segments, line, test, within, place: Place::Use };
        let (reexport, public) = (seen != Seen::Here, seen == Seen::Everywhere);
        self.imports.push(Import { name, glob, reexport, public, path });
    }

    /// Paths among tokens that no grammar is known for: the inside of a macro or of an attribute.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    at += 1;
                }
                TokenTree::Ident(_) if !follows_dot(&tokens, at) && !follows_fn(&tokens, at) => {
                    let (segments, line, next) = straight(&tokens, at);
                    self.push(segments, line);
                    at = next;
                }
                _ => at += 1,
            }
        }
    }

    /// `with = "path"` and the like: text in an attribute that is a path.
    fn quoted_paths(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.quoted_paths(group.stream()),
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) else { continue };
                    if let Ok(path) = text.parse::<syn::Path>() {
                        let path = segments(&path);
                        // `with` names a module and stands for two functions of it.
                        for function in ["serialize", "deserialize"] {
                            self.push([path.as_slice(), &[function.to_owned()]].concat(), line);
                        }
                        self.push(path, line);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.marked(attributes(item), item, |this| visit::visit_item(this, item));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let seen = match item.vis {
            syn::Visibility::Inherited => Seen::Here,
            syn::Visibility::Restricted(_) => Seen::Inside,
            syn::Visibility::Public(_) => Seen::Everywhere,
        };
        let before = if item.leading_colon.is_some() { vec![String::new()] } else { Vec::new() };
        self.use_tree(&item.tree, &before, seen);
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Const(it) => &it.attrs,
            syn::ImplItem::Fn(it) => &it.attrs,
            syn::ImplItem::Type(it) => &it.attrs,
            syn::ImplItem::Macro(it) => &it.attrs,
            _ => return,
        };
        self.marked(attributes, item, |this| visit::visit_impl_item(this, item));
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.in_place(Place::Body, |this| visit::visit_block(this, block));
    }

    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        self.in_place(Place::Body, |this| visit::visit_expr(this, expression));
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        let private = matches!(field.vis, syn::Visibility::Inherited);
        let place = if private && self.place == Place::Interface { Place::Body } else { self.place };
        self.marked(&field.attrs, field, |this| this.in_place(place, |this| visit::visit_field(this, field)));
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        // Fields of a variant are as public as the enum.
        for attribute in &variant.attrs {
            self.visit_attribute(attribute);
        }
        for field in &variant.fields {
            self.visit_type(&field.ty);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.marked(&arm.attrs, arm, |this| visit::visit_arm(this, arm));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        self.marked(&local.attrs, local, |this| visit::visit_local(this, local));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            self.push(segments(path), first.ident.span().start().line);
        }
        // Generic arguments hold paths of their own.
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        let place = if self.within.is_empty() { self.place } else { Place::Body };
        self.in_place(place, |this| this.tokens(called.tokens.clone()));
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if ["doc", "cfg", "allow", "expect"].iter().any(|name| attribute.path().is_ident(name)) {
            return;
        }
        let syn::Meta::List(list) = &attribute.meta else { return };
        self.in_place(Place::Body, |this| {
            this.tokens(list.tokens.clone());
            if attribute.path().is_ident("serde") {
                this.quoted_paths(list.tokens.clone());
            }
        });
    }
}

/// Name and line of each function after `#[test]` among the tokens of a macro.
pub fn tests_among(tokens: TokenStream) -> Vec<(String, usize)> {
    let (mut found, mut marked) = (Vec::new(), false);
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => marked |= group.stream().to_string() == "test",
            TokenTree::Ident(word) if word == "fn" && marked => {
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                    found.push((name.to_string(), name.span().start().line));
                }
                marked = false;
            }
            _ => {}
        }
    }
    found
}

/// Name, line and whether it is `pub` of each function that stands in a macro as an item would.
pub fn functions_among(tokens: TokenStream) -> Vec<(String, usize, bool)> {
    let (mut found, mut public) = (Vec::new(), false);
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "pub" => {
                public = !matches!(tokens.get(at + 1), Some(TokenTree::Group(_)));
            }
            TokenTree::Ident(name) if follows_fn(&tokens, at) => {
                found.push((name.to_string(), name.span().start().line, public));
            }
            TokenTree::Punct(end) if end.as_char() == ';' => public = false,
            _ => {}
        }
    }
    found
}

fn follows_fn(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    matches!(before, Some(TokenTree::Ident(word)) if word == "fn")
}

fn segments(path: &syn::Path) -> Vec<String> {
    let root = path.leading_colon.map(|_| String::new());
    root.into_iter().chain(path.segments.iter().map(|segment| segment.ident.to_string())).collect()
}

/// A path that starts at `at`: its segments, its line, and where the next token is.
fn straight(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize, usize) {
    let line = tokens[at].span().start().line;
    let (mut segments, mut at) = (vec![tokens[at].to_string()], at + 1);
    while is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':') {
        let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
        segments.push(next.to_string());
        at += 3;
    }
    (segments, line, at)
}

/// True for a field or method name, and for the name after a lifetime's mark.
fn follows_dot(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
    let range = at >= 2 && is_punct(tokens.get(at - 2), '.');
    (is_punct(before, '.') && !range) || is_punct(before, '\'')
}

fn is_punct(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(found)) if found.as_char() == character)
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(it) => &it.attrs,
        syn::Item::Enum(it) => &it.attrs,
        syn::Item::Fn(it) => &it.attrs,
        syn::Item::Impl(it) => &it.attrs,
        syn::Item::Macro(it) => &it.attrs,
        syn::Item::Mod(it) => &it.attrs,
        syn::Item::Static(it) => &it.attrs,
        syn::Item::Struct(it) => &it.attrs,
        syn::Item::Trait(it) => &it.attrs,
        syn::Item::Type(it) => &it.attrs,
        syn::Item::Union(it) => &it.attrs,
        syn::Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

/// How an item is shown: its name, or for an `impl` the type's.
fn name(item: &syn::Item) -> String {
    match item {
        syn::Item::Const(it) => it.ident.to_string(),
        syn::Item::Enum(it) => it.ident.to_string(),
        syn::Item::Fn(it) => it.sig.ident.to_string(),
        syn::Item::Static(it) => it.ident.to_string(),
        syn::Item::Struct(it) => it.ident.to_string(),
        syn::Item::Trait(it) => it.ident.to_string(),
        syn::Item::Type(it) => it.ident.to_string(),
        syn::Item::Union(it) => it.ident.to_string(),
        syn::Item::Impl(it) => match &*it.self_ty {
            syn::Type::Path(path) => {
                path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
            }
            _ => String::new(),
        },
        syn::Item::Macro(it) => it.ident.as_ref().map(ToString::to_string).unwrap_or_default(),
        _ => String::new(),
    }
}
