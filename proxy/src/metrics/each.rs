//! One metric for each value of a label, found without a lock.
//!
//! All of them are there from the start, at zero: what never happened is seen as 0, and not as missing.

use std::fmt::Debug;
use std::marker::PhantomData;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::labels::Label;

/// A metric, as it is exposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// Without the prefix of the program, and without `_total`.
    pub(super) name: &'static str,
    /// What it counts, and in which unit.
    pub(super) help: &'static str,
}

impl Named {
    /// Registers a metric without labels.
    pub(super) fn register<M>(self, registry: &mut Registry, metric: M) -> M
    where
        M: EncodeMetric + TypedMetric + Clone + Debug + Send + Sync + 'static,
    {
        registry.register(self.name, self.help, metric.clone());
        metric
    }
}

/// One metric for each value of a label.
#[derive(Debug)]
pub(super) struct Each<L, M> {
    metrics: Vec<M>,
    label: PhantomData<L>,
}

impl<L: Label, M> Each<L, M>
where
    M: EncodeMetric + TypedMetric + Clone + Debug + Send + Sync + 'static,
{
    /// Registers them under one name. `new` makes one.
    pub(super) fn register(
        registry: &mut Registry,
        named: Named,
        label: &'static str,
        new: fn() -> M,
    ) -> Self {
        let family = Family::<[(&str, &str); 1], M>::new_with_constructor(new);
        registry.register(named.name, named.help, family.clone());
        let metrics =
            L::ALL.iter().map(|value| family.get_or_create_owned(&[(label, value.text())]));
        Self { metrics: metrics.collect(), label: PhantomData }
    }

    /// The one of a value.
    pub(super) fn of(&self, value: L) -> &M {
        // There is one for each value, in the order of their numbers.
        &self.metrics[value.index()]
    }
}

/// One metric for each pair of values of two labels.
#[derive(Debug)]
pub(super) struct EachPair<A, B, M> {
    metrics: Vec<M>,
    labels: PhantomData<(A, B)>,
}

impl<A: Label, B: Label, M> EachPair<A, B, M>
where
    M: EncodeMetric + TypedMetric + Clone + Debug + Send + Sync + 'static,
{
    /// Registers them under one name. `new` makes one.
    pub(super) fn register(
        registry: &mut Registry,
        named: Named,
        labels: [&'static str; 2],
        new: fn() -> M,
    ) -> Self {
        let family = Family::<[(&str, &str); 2], M>::new_with_constructor(new);
        registry.register(named.name, named.help, family.clone());
        let pairs = A::ALL.iter().flat_map(|a| B::ALL.iter().map(move |b| (a.text(), b.text())));
        let metrics =
            pairs.map(|(a, b)| family.get_or_create_owned(&[(labels[0], a), (labels[1], b)]));
        Self { metrics: metrics.collect(), labels: PhantomData }
    }

    /// The one of a pair.
    pub(super) fn of(&self, a: A, b: B) -> &M {
        // There is one for each pair, in the order of their numbers.
        &self.metrics[a.index() * B::ALL.len() + b.index()]
    }
}
