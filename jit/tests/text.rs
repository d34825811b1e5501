//! The text form of random kernels, and what the verifier makes of kernels that are nearly right.

mod random;

use cranelift_entity::EntityRef;
use ipex_jit::cranelift;
use ipex_jit::kernel::*;
use ipex_jit::wide::{self, Target};
use proptest::prelude::*;
use random::random;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 40..160)
}

/// Every instruction of a body and of the loops in it.
fn for_each_inst(body: &mut [Stmt], f: &mut impl FnMut(ValueId, &mut Inst)) {
    for stmt in body {
        match stmt {
            Stmt::Let { value, inst } => f(*value, inst),
            Stmt::Loop(l) => for_each_inst(&mut l.body, f),
            Stmt::Store { .. } => {}
        }
    }
}

fn operands_mut(inst: &mut Inst) -> Vec<&mut ValueId> {
    match inst {
        Inst::Const(_) | Inst::Var(_) | Inst::Load { .. } => vec![],
        Inst::Unary { arg, .. }
        | Inst::Convert { arg, .. }
        | Inst::Narrow { arg, .. }
        | Inst::Scan { arg, .. } => vec![arg],
        Inst::Binary { args, .. } | Inst::Compare { args, .. } => args.iter_mut().collect(),
        Inst::Fma { args } => args.iter_mut().collect(),
        Inst::Select {
            cond,
            on_true,
            on_false,
        } => vec![cond, on_true, on_false],
    }
}

/// Replaces the `n`-th operand of the kernel (counted around) by `by(operand)`; false if there is none.
fn replace_operand(k: &mut Kernel, n: usize, by: impl Fn(ValueId) -> ValueId) -> bool {
    let mut all = 0;
    for_each_inst(&mut k.root.body, &mut |_, inst| {
        all += operands_mut(inst).len()
    });
    let (mut at, wanted) = (0, n % all.max(1));
    for_each_inst(&mut k.root.body, &mut |_, inst| {
        for operand in operands_mut(inst) {
            if at == wanted {
                *operand = by(*operand);
            }
            at += 1;
        }
    });
    all > 0
}

/// Drops the `n`-th definition, in the order of the text, that something uses.
fn drop_definition(k: &mut Kernel, n: usize) -> bool {
    let mut used = Vec::new();
    for_each_inst(&mut k.root.body, &mut |_, inst| {
        used.extend(inst.operands())
    });
    let Some(&target) = used.get(n % used.len().max(1)) else {
        return false;
    };
    fn without(body: Vec<Stmt>, target: ValueId) -> Vec<Stmt> {
        let keep = |s: &Stmt| !matches!(s, Stmt::Let { value, .. } if *value == target);
        let inner = |s| match s {
            Stmt::Loop(mut l) => {
                l.body = without(l.body, target);
                l.carries
                    .retain(|c| c.result != target && c.arg != Some(target));
                Stmt::Loop(l)
            }
            other => other,
        };
        body.into_iter().filter(keep).map(inner).collect()
    }
    k.root.body = without(std::mem::take(&mut k.root.body), target);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn kernels_survive_their_text(bytes in bytes()) {
        let (kernel, _) = random(&bytes);
        let text = kernel.to_string();
        let parsed = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        prop_assert_eq!(&parsed, &kernel, "{}", text);
        // Expansions leave ids behind that nothing defines.
        let expanded = ipex_jit::math::expand(&kernel);
        verify(&expanded).unwrap_or_else(|e| panic!("{e}\n{expanded}"));
        prop_assert_eq!(parse(&expanded.to_string()), Ok(expanded));
    }

    #[test]
    fn a_text_cut_short_is_an_error_with_its_place(bytes in bytes(), cut in any::<prop::sample::Index>()) {
        let text = random(&bytes).0.to_string();
        let cut = cut.index(text.trim_end().len());
        let error = parse(&text[..cut]).unwrap_err();
        prop_assert_eq!(error.place.line, text[..cut].lines().count().max(1) + usize::from(text[..cut].ends_with('\n')));
    }

    #[test]
    fn any_text_parses_or_is_refused(bytes in bytes(), at in any::<prop::sample::Index>(), with in "[-a-z0-9{}*+:,<=\\[\\]() ;.é]{0,3}") {
        let mut text = random(&bytes).0.to_string();
        let at = at.index(text.len());
        text.replace_range(at..=at, &with);
        if let Ok(kernel) = parse(&text) {
            let _ = verify(&kernel);
            prop_assert_eq!(parse(&kernel.to_string()), Ok(kernel));
        }
    }

    #[test]
    fn a_dropped_definition_is_refused(bytes in bytes(), n in any::<usize>()) {
        let mut kernel = random(&bytes).0;
        prop_assume!(drop_definition(&mut kernel, n));
        prop_assert!(verify(&kernel).is_err(), "{}", kernel);
    }

    #[test]
    fn an_operand_of_another_type_is_refused(bytes in bytes(), n in any::<usize>()) {
        let mut kernel = random(&bytes).0;
        let types = kernel.values.clone();
        let mut found = false;
        // `Convert` takes any type.
        let other = |v: ValueId| types.keys().find(|w| types[*w] != types[v]).unwrap_or(v);
        let mut at = 0;
        for_each_inst(&mut kernel.root.body, &mut |_, inst| {
            if !matches!(inst, Inst::Convert { .. }) {
                for operand in operands_mut(inst) {
                    if at == n % 4 && other(*operand) != *operand {
                        (*operand, found) = (other(*operand), true);
                    }
                    at += 1;
                }
            }
        });
        prop_assume!(found);
        prop_assert!(verify(&kernel).is_err(), "{}", kernel);
    }

    #[test]
    fn a_use_before_its_definition_is_refused(bytes in bytes(), n in any::<usize>()) {
        let mut kernel = random(&bytes).0;
        let last = ValueId::new(kernel.values.len());
        let ty = kernel.values[ValueId::new(0)];
        kernel.values.push(ty);
        prop_assume!(replace_operand(&mut kernel, n, |_| last));
        let inst = Inst::Unary { op: UnaryOp::Abs, arg: ValueId::new(0) };
        kernel.root.body.push(Stmt::Let { value: last, inst });
        prop_assert!(verify(&kernel).is_err(), "{}", kernel);
    }

    #[test]
    fn what_verifies_compiles(bytes in bytes(), n in any::<usize>(), by in any::<usize>()) {
        let mut kernel = random(&bytes).0;
        let values = kernel.values.len();
        prop_assume!(replace_operand(&mut kernel, n, |_| ValueId::new(by % values)));
        if verify(&kernel).is_ok() {
            cranelift::compile(&kernel).unwrap();
            for target in Target::available() {
                let _ = wide::compile_for(&kernel, target);
            }
        }
    }
}
