-- The value of every indicator that has facts, from the baseline to a day, for the whole ('' as adm_code) and for each district, as far
-- into each stream as the cut says. The cut is given as two arrays of equal length.
SELECT indicator, adm_code, sum(value) AS value
FROM tongan_g1.facts FINAL
WHERE day BETWEEN {baseline_on:Date} AND {as_of:Date}
  AND seq <= transform(toString(stream), {streams:Array(String)}, {sequences:Array(UInt64)}, toUInt64(0))
GROUP BY GROUPING SETS ((indicator), (indicator, adm_code))
