/* SPDX-License-Identifier: MIT */
/*
 * The page: what is shown, and how it follows the one moment that is looked at and the one range of
 * time that the charts show.
 */
const byId = (id) => document.getElementById(id);
const slider = byId('slider');

const column = (key) => ({data: () => ({t: data.t, y: columns[key]}), at: (i) => columns[key][i]});
const rateColumn = (key) => ({
  data: (view) => rates(key, view.from, view.to),
  /* Over half a second or so around the sample. */
  at: (i) => {
    const around = rates(key, data.t[i] - 25e4, data.t[i] + 25e4);
    return around.y.length > 0 ? around.y[indexAt(around.t, data.t[i])] : null;
  },
});
const ever = (key) => columns[key].some((value) => value > 0);

const panels = [
  ...(data.events.length > 0 ? [new EventLane()] : []),
  new Panel({
    id: 'guest', title: 'What the guest believes to have', unit: 'bytes', height: 210,
    series: [
      {label: 'populated', style: 'area', colour: 'populated', ...column('populated')},
      {label: 'PoD entries (no memory yet)', style: 'area', colour: 'pod', ...column('pod')},
      ...(ever('out') ? [{label: 'given up (balloon)', style: 'area', colour: 'out', ...column('out')}] : []),
      {label: 'target', style: 'dashed', colour: 'target', ...column('target')},
      {label: 'max', style: 'line', colour: 'max', ...column('max')},
      ...(waits.length > 0 ? [{label: 'waiting for memory', style: 'area', colour: 'wait-key'}] : []),
    ],
  }),
  new Panel({
    id: 'host', title: 'What it costs the host', unit: 'bytes', height: 210,
    series: [
      {label: 'populated', style: 'area', colour: 'populated', ...column('populated')},
      {label: 'cache', style: 'area', colour: 'cache', ...column('cache')},
      {label: 'target', style: 'dashed', colour: 'target', ...column('target')},
      ...(ever('host') ? [{label: 'QEMU in all (RssAnon)', style: 'line', colour: 'host', ...column('host')}] : []),
    ],
  }),
  new Panel({
    id: 'work', title: 'Faults served and pieces reclaimed, per second', unit: 'rate', height: 150,
    series: [
      {label: 'faults', style: 'line', colour: 'populated', ...rateColumn('faults')},
      {label: 'reclaims', style: 'dashed', colour: 'target', ...rateColumn('reclaims')},
    ],
  }),
  new Panel({
    id: 'latency', title: 'How long faults took, all so far', unit: 'ns', log: true, height: 150,
    series: [
      {label: 'half within', style: 'line', colour: 'populated', ...column('p50')},
      {label: '99% within', style: 'dashed', colour: 'target', ...column('p99')},
    ],
  }),
];
const grid = data.maps.length > 0 ? new MapGrid() : null;
if (grid) {
  panels.push(new MapStrip({
    id: 'map', title: "The guest's memory, by address", unit: 'bytes', height: 230,
    top: data.cells * cellBytes,
    series: KINDS.filter((kind) => kind.name !== 'split')
      .map((kind) => ({label: kind.name, style: 'area', colour: kind.colour})),
  }));
}
byId('map-card').hidden = !grid;

/* The moment that is looked at, and the range that is shown; us. */
let moment = data.t[columns.populated.indexOf(Math.max(...columns.populated))];
const view = {from: 0, to: end};

/*
 * The key figures: tiles, and a table whose last column is that of the moment.
 */
function extremes(values) {
  const known = values.filter((value) => value !== null);
  return known.length > 0 ? known.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)],
    [known[0], known[0]]) : [null, null];
}

function fillTiles() {
  const last = count - 1;
  const range = (key) => {
    const [low, high] = extremes(columns[key]).map((value) => show('bytes', value));
    const unit = (text) => text.split(' ')[1];
    return low === high ? high : `${unit(low) === unit(high) ? low.split(' ')[0] : low} to ${high}`;
  };
  const tiles = [
    ['The guest believes to have', show('bytes', columns.max[last]), ''],
    ['The host was to give', range('target'), 'target'],
    ['Populated at most', show('bytes', extremes(columns.populated)[1]), ''],
    ['QEMU in all at most', show('bytes', extremes(columns.host)[1]), 'RssAnon'],
    ['Faults served', show('number', data.faults[last]), `half within ${show('ns', data.p50[last])}, ` +
      `99% within ${show('ns', data.p99[last])}`],
    ['Reclaimed', show('number', data.reclaims[last]), 'superpages and single pages'],
  ];
  byId('tiles').replaceChildren(...tiles.map(([name, value, note]) => element('div', {}, element('dt', {}, name),
    element('dd', {}, value, ...(note ? [element('small', {}, note)] : [])))));
}

const nowCells = [];

function fillTable() {
  const rows = [
    ['populated', 'bytes', columns.populated], ['cache', 'bytes', columns.cache],
    ['total (populated + cache)', 'bytes', columns.total], ['target', 'bytes', columns.target],
    ['PoD entries', 'bytes', columns.pod], ['given up', 'bytes', columns.out], ['max', 'bytes', columns.max],
    ['QEMU in all (RssAnon)', 'bytes', columns.host], ['faults since the domain began', 'number', data.faults],
    ['reclaims since then', 'number', data.reclaims], ['half of the faults within', 'ns', data.p50],
    ['99% of the faults within', 'ns', data.p99],
  ];
  const head = ['', 'first', 'lowest', 'highest', 'last', 'at that time'];
  const body = rows.map(([name, unit, values]) => {
    const now = element('td', {class: 'now'});
    nowCells.push((i) => {
      now.textContent = show(unit, values[i]);
    });
    return element('tr', {}, element('th', {scope: 'row'}, name),
      ...[values[0], ...extremes(values), values[count - 1]].map((v) => element('td', {}, show(unit, v))), now);
  });
  byId('figures').replaceChildren(element('thead', {}, element('tr', {},
    ...head.map((name) => (name ? element('th', {scope: 'col'}, name) : element('td'))))),
  element('tbody', {}, ...body));
}

/*
 * The list of events.
 */
const eventButtons = [];

function fillEvents() {
  for (const group of groups) {
    const first = group.events[0];
    const when = showTime(group.t) + (group.last > group.t ? ` to ${showTime(group.last)}` : '');
    const times = group.events.length > 1 ? `${group.events.length} times, until ${showTime(group.last)}; first with ` : '';
    const what = first.total === null ? times.replace('; first with ', '')
      : `${times}target ${show('bytes', first.target * data.page_bytes)}, total ` +
        `${show('bytes', first.total * data.page_bytes)}, cache ${show('bytes', first.cache * data.page_bytes)}`;
    const button = element('button', {type: 'button', title: `Show ${when}`},
      element('span', {class: 'when'}, showTime(group.t)), element('span', {class: 'name'}, group.words),
      element('span', {class: 'what'}, what));
    button.addEventListener('click', () => setMoment(group.t));
    eventButtons.push(button);
    byId('events').append(element('li', {}, button));
  }
  if (data.ending) {
    byId('events').append(element('li', {class: 'faint'}, `${showTime(end)}: ${data.ending}`));
  }
  if (groups.length === 0) {
    byId('events').prepend(element('li', {class: 'faint'}, 'This recording has no events.'));
  }
}

/* Scrolls a list, and nothing else, so that an item of it is seen. */
function showInList(list, item) {
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) {
    list.scrollTop = top - list.clientHeight / 3;
  }
}

/*
 * Following the moment and the range.
 */
function showMoment() {
  const i = sampleAt(moment);
  for (const panel of panels) {
    panel.point(moment, i);
  }
  if (grid) {
    grid.draw(moment);
  }
  nowCells.forEach((fill) => fill(i));
  const group = groups.findLast(({t}) => t <= moment);
  eventButtons.forEach((button, k) => {
    if (groups[k] === group) {
      button.setAttribute('aria-current', 'true');
      showInList(byId('events'), button.parentNode);
    } else {
      button.removeAttribute('aria-current');
    }
  });
  slider.value = moment;
  byId('time').textContent = showTime(moment);
  byId('moment').textContent = `${data.state[i]}${group ? `; last event: ${group.words}` : ''}`;
  slider.setAttribute('aria-valuetext', `${showTime(moment)}: ${['populated', 'cache', 'target', 'pod', 'out']
    .map((key) => `${key === 'pod' ? 'PoD entries' : key} ${show('bytes', columns[key][i])}`).join(', ')}`);
}

function showAll() {
  for (const panel of panels) {
    panel.draw(view);
  }
  slider.min = view.from;
  slider.max = view.to;
  Object.assign(byId('window').style, {
    marginLeft: `${100 * view.from / end}%`, width: `${Math.max(1, 100 * (view.to - view.from) / end)}%`,
  });
  const whole = view.from === 0 && view.to === end;
  byId('all').disabled = byId('zoom-out').disabled = whole;
  byId('earlier').disabled = view.from === 0;
  byId('later').disabled = view.to === end;
  byId('zoom-in').disabled = view.to - view.from <= least;
  showMoment();
}

/* Nobody needs to see less than some samples. */
const least = Math.min(end, Math.max(1000, 8 * end / count));

function setView(from, to) {
  const span = Math.min(end, Math.max(least, to - from));
  view.from = Math.min(Math.max(0, from), end - span);
  view.to = view.from + span;
  moment = Math.min(view.to, Math.max(view.from, moment));
  showAll();
}

function setMoment(t) {
  moment = Math.min(end, Math.max(0, t));
  if (moment < view.from || moment > view.to) {
    const span = view.to - view.from;
    setView(moment - span / 2, moment + span / 2);
  } else {
    showMoment();
  }
}

/* Zooms around the moment, or the middle if it is not in view. */
function zoom(factor) {
  const share = (moment - view.from) / (view.to - view.from);
  const span = (view.to - view.from) * factor;
  setView(moment - share * span, moment - share * span + span);
}

function pan(share) {
  const by = share * (view.to - view.from);
  setView(view.from + by, view.to + by);
}

/* Dragging a mouse chooses a range; a finger moves the moment. */
const DRAG_PIXELS = 6;

/* Looks at the sample nearest to a point of a panel, or at the point if that is not in view. */
function pointAt(panel, clientX) {
  const t = panel.timeAt(clientX);
  const nearest = data.t[sampleAt(t)];
  setMoment(nearest >= view.from && nearest <= view.to ? nearest : t);
}

function follow(panel) {
  let start = null;
  panel.plot.addEventListener('pointerdown', (event) => {
    pointAt(panel, event.clientX);
    if (event.pointerType === 'mouse' && event.button === 0) {
      start = event.clientX;
      panel.plot.setPointerCapture(event.pointerId);
    }
  });
  panel.plot.addEventListener('pointermove', (event) => {
    if (start !== null && Math.abs(event.clientX - start) > DRAG_PIXELS) {
      panels.forEach((other) => other.select(panel.timeAt(start), panel.timeAt(event.clientX)));
    }
    pointAt(panel, event.clientX);
  });
  const finish = (event) => {
    panels.forEach((other) => other.select());
    if (start !== null && event.type === 'pointerup' && Math.abs(event.clientX - start) > DRAG_PIXELS) {
      const [from, to] = [panel.timeAt(start), panel.timeAt(event.clientX)].sort((a, b) => a - b);
      setView(from, to);
    }
    start = null;
  };
  panel.plot.addEventListener('pointerup', finish);
  panel.plot.addEventListener('pointercancel', finish);
  panel.plot.addEventListener('dblclick', () => setView(0, end));
}

function useColours() {
  const palette = paletteNow();
  for (const drawer of [grid, ...panels]) {
    if (drawer) {
      drawer.palette = palette;
    }
  }
}

document.title = `${data.name}: its memory over time (Ballast)`;
byId('title').textContent = `Memory of domain “${data.name}”`;
byId('subtitle').textContent = [
  `recorded from ${new Date(data.started * 1000).toISOString().replace('T', ' ').slice(0, 19)} UTC`,
  `for ${showTime(end)}`, ...(data.ending ? [data.ending] : []),
].join(', ');
byId('charts').append(...panels.map((panel) => panel.root));
fillTiles();
fillTable();
fillEvents();
panels.forEach(follow);

slider.step = Math.max(1, Math.round(end / Math.max(1, count - 1)));
slider.addEventListener('input', () => setMoment(Number(slider.value)));
slider.addEventListener('keydown', (event) => {
  const action = {'+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2), 0: () => setView(0, end)}[event.key];
  if (action && !event.ctrlKey && !event.metaKey && !event.altKey) {
    action();
    event.preventDefault();
  }
});
byId('zoom-in').addEventListener('click', () => zoom(0.5));
byId('zoom-out').addEventListener('click', () => zoom(2));
byId('earlier').addEventListener('click', () => pan(-0.5));
byId('later').addEventListener('click', () => pan(0.5));
byId('all').addEventListener('click', () => setView(0, end));

useColours();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
  useColours();
  showAll();
});
new ResizeObserver(showAll).observe(byId('charts'));
showAll();
