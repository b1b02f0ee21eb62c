/// Seconds since 1970-01-01 and calendar fields (proleptic Gregorian, no leap seconds), for any input without trap.
package struct CivilTime: Hashable, Sendable {
  package var year: Int
  /// 1 to 12.
  package var month: Int
  /// 1 to 31.
  package var day: Int
  package var hour: Int
  package var minute: Int
  package var second: Int
  package static let secondsPerDay: Int64 = 86_400

  package init(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// Years are counted from March, so that the leap day is the last of its year, in eras of 400 years.
  package init(secondsSince1970 seconds: Int64) {
    let days = seconds.flooredQuotient(by: Self.secondsPerDay)
    let rest = Int(seconds - days * Self.secondsPerDay)
    (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60)
    let shifted = days + 719_468
    let era = shifted.flooredQuotient(by: 146_097)
    let dayOfEra = shifted - era * 146_097
    let yearOfEra =
      (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = Int(dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100))
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
  }

  /// Fields out of range are taken into it first, as a clock chip would count on from nonsense.
  package var secondsSince1970: Int64 {
    let month = Int64(min(max(month, 1), 12))
    let day = Int64(min(max(day, 1), 31))
    let year = Int64(min(max(year, 0), 9999)) - (month <= 2 ? 1 : 0)
    let era = year.flooredQuotient(by: 400)
    let yearOfEra = year - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    let days = era * 146_097 + dayOfEra - 719_468
    return days * Self.secondsPerDay + Int64(min(max(hour, 0), 23)) * 3600
      + Int64(min(max(minute, 0), 59)) * 60 + Int64(min(max(second, 0), 59))
  }

  /// 1 is Sunday.
  package static func weekday(secondsSince1970 seconds: Int64) -> Int {
    let days = seconds.flooredQuotient(by: secondsPerDay)
    return Int((days + 4).flooredRemainder(by: 7)) + 1
  }
}

extension Int64 {
  package func flooredQuotient(by divisor: Int64) -> Int64 {
    let quotient = self / divisor
    return self % divisor < 0 ? quotient - 1 : quotient
  }
  package func flooredRemainder(by divisor: Int64) -> Int64 {
    self - flooredQuotient(by: divisor) * divisor
  }
}
