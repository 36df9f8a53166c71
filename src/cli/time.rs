//! Moments as people write them.

/// Milliseconds since 1970 as a number, or a moment as RFC 3339 writes it: `2026-01-31T12:00:00Z`,
/// `2026-01-31T13:00:00.250+01:00`. Moments before 1970 are taken as 1970.
///
/// # Errors
///
/// What would be right.
pub(super) fn parse_millis(text: &str) -> Result<i64, String> {
    let millis = digits(text, 1..=18).or_else(|| parse_rfc3339(text).map(|millis| millis.max(0)));
    millis.ok_or_else(|| {
        "milliseconds since 1970, or a time like 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00 is expected"
            .to_owned()
    })
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let mut date = date.split('-');
    let (year, month, day) = (digits(date.next()?, 4..=4)?, digits(date.next()?, 2..=2)?, digits(date.next()?, 2..=2)?);
    let (clock, zone_seconds) = split_zone(time)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut clock = clock.split(':');
    let (hour, minute, second) = (below(24, clock.next()?)?, below(60, clock.next()?)?, below(61, clock.next()?)?);
    let in_range = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !in_range || date.next().is_some() || clock.next().is_some() {
        return None;
    }
    let millis = fraction.map_or(Some(0), fraction_millis)?;
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - zone_seconds;
    Some(seconds * 1_000 + millis)
}

/// The clock's part, and by how many seconds it is ahead of UTC.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let (clock, zone) = time.split_at(time.rfind(['+', '-'])?);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some((clock, sign * (below(24, hours)? * 3_600 + below(60, minutes)? * 60)))
}

fn below(limit: i64, text: &str) -> Option<i64> {
    digits(text, 2..=2).filter(|number| *number < limit)
}

/// Thousandths; finer digits are cut off.
fn fraction_millis(fraction: &str) -> Option<i64> {
    digits(fraction, 1..=18)?;
    digits(&format!("{fraction:0<3}").chars().take(3).collect::<String>(), 3..=3)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let is_number = length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts in years that begin in March, so that a leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before_year + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("1700000000123", 1_700_000_000_123),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-01-31T12:34:56.5Z", 1_769_862_896_500),
            ("2026-01-31 13:34:56.0019+01:00", 1_769_862_896_001),
            ("2026-01-31t07:04:56-05:30", 1_769_862_896_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
            ("1969-12-31T23:59:59Z", 0),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ] {
            assert_eq!(parse_millis(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "yesterday",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01-01T00:00:00Z",
            "9999999999999999999",
            "\u{e9}T\u{e9}+\u{e9}",
        ] {
            assert!(parse_millis(text).is_err(), "{text}");
        }
    }
}
