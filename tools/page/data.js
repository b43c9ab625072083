/* SPDX-License-Identifier: MIT */
/*
 * The recording, and how its figures are written.
 *
 * data: name, started (seconds since 1970), ending (words), page_bytes; columns of equal length: t (us
 * since the first sample, ascending), max, target, populated, cache, pod, out, host (pages), faults,
 * reclaims (since the domain began), p50, p99 (ns), state; events: [{t, name, target, total, cache,
 * pod}]; maps: [{t, map}], of `cells` cells with `cell_pages` pages each (the last perhaps fewer). What
 * is not known is null.
 */
const data = JSON.parse(document.getElementById('data').textContent);
const count = data.t.length;
const end = Math.max(data.t[count - 1], 1);

/* The index of the last entry of ascending times that is not after t, or 0. */
function indexAt(times, t) {
  let low = 0;
  let high = times.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/* The index of the sample nearest to t. */
function sampleAt(t) {
  const i = indexAt(data.t, t);
  return i + 1 < count && data.t[i + 1] - t < t - data.t[i] ? i + 1 : i;
}

const pagesOf = (key) => data[key].map((pages) => (pages === null ? null : pages * data.page_bytes));
const columns = {};
for (const key of ['max', 'target', 'populated', 'cache', 'pod', 'out', 'host']) {
  columns[key] = pagesOf(key);
}
columns.total = columns.populated.map((bytes, i) => bytes + columns.cache[i]);
columns.p50 = data.p50;
columns.p99 = data.p99;

/* Numbers a second of a counter between two times, over whole samples that are at least a 200th of
 * that apart: {t, y}, the middles and the rates. */
function rates(key, from, to) {
  const counter = data[key];
  const least = (to - from) / 200;
  const t = [];
  const y = [];
  let first = Math.max(0, indexAt(data.t, from) - 1);
  const last = Math.min(count - 1, indexAt(data.t, to) + 1);
  for (let i = first + 1; i <= last; i++) {
    const elapsed = data.t[i] - data.t[first];
    if (elapsed > 0 && (elapsed >= least || i === last)) {
      t.push((data.t[first] + data.t[i]) / 2);
      y.push((counter[i] - counter[first]) / (elapsed / 1e6));
      first = i;
    }
  }
  return {t, y};
}

/* A map's letters, from its runs. */
function lettersOf(map) {
  return map.map.replace(/([A-Za-z])(\d+)/g, (_, letter, run) => letter.repeat(run));
}

function decimals(value, digits) {
  return value >= 1000 || value === 0 ? value.toFixed(0)
    : value.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(value))));
}

function scaled(value, units, factor, digits) {
  let unit = 0;
  while (unit + 1 < units.length && value >= 0.9995 * factor) {
    value /= factor;
    unit++;
  }
  return `${Number(decimals(value, digits))} ${units[unit]}`;
}

const format = {
  bytes: (value) => (value === 0 ? '0' : scaled(value, ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'], 1024, 4)),
  rate: (value) => `${value >= 100 ? Math.round(value).toLocaleString('en') : Number(value.toFixed(1))} /s`,
  ns: (value) => scaled(value, ['ns', 'µs', 'ms', 's'], 1000, 3),
  number: (value) => value.toLocaleString('en'),
};

/* A value, or a dash for what is not known. */
function show(unit, value) {
  return value === null || value === undefined || Number.isNaN(value) ? '–' : format[unit](value);
}

/* A time of the recording: "3.42 s", or "1:02:03" in a long one; "3.42 s before" it. */
function showTime(us, digits = end < 120e6 ? 2 : 1) {
  if (us < 0) {
    return `${showTime(-us, digits)} before`;
  }
  if (end < 300e6) {
    return `${(us / 1e6).toFixed(digits)} s`;
  }
  const seconds = us / 1e6;
  const whole = Math.floor(seconds);
  const text = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
    .map((part) => String(part).padStart(2, '0')).join(':').replace(/^00:/, '').replace(/^0/, '');
  return text + (digits > 0 ? (seconds - whole).toFixed(digits).slice(1) : '');
}

/* The stretches of time in which the guest waited for memory: {from, to}. */
const waits = [];
data.state.forEach((state, i) => {
  if (state === 'exhausted') {
    const until = data.t[Math.min(i + 1, count - 1)];
    const last = waits[waits.length - 1];
    if (last && last.to === data.t[i]) {
      last.to = until;
    } else {
      waits.push({from: data.t[i], to: until});
    }
  }
});

/* Events in a row that have one name, as one: {name, words, t, last, events}. */
const groups = [];
for (const event of data.events) {
  const group = groups[groups.length - 1];
  if (group && group.name === event.name) {
    group.events.push(event);
    group.last = event.t;
  } else {
    groups.push({
      name: event.name, words: event.name.toLowerCase().replaceAll('_', ' '), t: event.t, last: event.t,
      events: [event],
    });
  }
}
