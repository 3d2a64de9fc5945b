//! Windows that work things out together, against each for itself.

use proptest::prelude::*;

use super::super::aggregate::aggregate;
use super::*;
use crate::contract::Contract;

/// Windows of many sizes by the same keys, by two times, with measures that some of them have in common.
fn contract() -> Contract {
    let mut text = COLUMNS.to_owned();
    for (number, (every, time, by)) in [
        ("1m", "arrival", r#""place""#),
        ("1h", "arrival", r#""place""#),
        ("1d", "arrival", r#""place""#),
        ("1h", "at", r#""place""#),
        ("1d", "at", r#""place""#),
        ("1m", "arrival", ""),
        ("1d", "arrival", ""),
        ("1m", "arrival", r#""place", "amount""#),
        ("1d", "arrival", r#""place", "amount""#),
        ("1d", "at", r#""place", "amount""#),
    ]
    .into_iter()
    .enumerate()
    {
        let measure =
            r#"n = "count", s = "sum(weight)", d = "distinct(amount)", l = "last(amount)", f = "first(weight)""#;
        let more = if number % 2 == 0 { r#"h = "max(amount)""# } else { r#"h = "min(amount)", t = "top(place, 2)""# };
        text.push_str(&format!(
            "[[window]]\nname = \"w{number}\"\nevery = \"{every}\"\ntime = \"{time}\"\nby = [{by}]\n\
             measure = {{ {measure}, {more} }}\n"
        ));
    }
    Contract::clone(&windows_of(&text).contract)
}

fn orders() -> impl Strategy<Value = Vec<Order>> {
    let place = prop::option::of(prop::sample::select(vec!["x", "y"]));
    let times = || 0..3 * MINUTE_US;
    let order = (place, prop::option::of(0..3i32), prop::option::of(-9.0..9.0f64), prop::option::of(times()), times());
    let order = order.prop_map(|(place, amount, weight, at_us, arrived_at_us)| Order {
        place,
        amount,
        weight,
        at_us,
        arrived_at_us,
    });
    prop::collection::vec(order, 0..200)
}

proptest! {
    #[test]
    fn what_windows_have_in_common_is_what_each_finds_alone(orders in orders()) {
        let contract = contract();
        let windows = StreamWindows::new("orders", Arc::new(contract.clone()), Registry::new().unwrap().stream("orders"));
        let rows = batch(&windows, range("a", 0, 1), &orders).rows;
        let together = aggregate(&contract, &rows).unwrap().windows;
        for (window, found) in contract.windows.iter().zip(together) {
            let alone = Contract { windows: vec![window.clone()], ..contract.clone() };
            prop_assert_eq!(&found, &aggregate(&alone, &rows).unwrap().windows[0], "{}", window.name);
        }
    }
}
