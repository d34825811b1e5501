.PHONY: test lint

## Rust tests
test:
	cargo test --workspace

## Formatting and lints, warnings denied
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
