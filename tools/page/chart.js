/* SPDX-License-Identifier: MIT */
/*
 * Panels: SVG charts under one time axis, each with a legend that says the values at the moment that
 * is looked at. A panel's spec:
 *
 *   title, unit ('bytes', 'rate', 'ns'), height (pixels), log (is the axis logarithmic),
 *   top (of the axis; what the series need if absent),
 *   series: [{label, style ('area', 'line', 'dashed'), colour (a class), data(view), at(i)}]
 *
 * data() gives what is drawn, {t, y}; areas share their times and stack in the order given. at() gives
 * the value at a sample. Without them a series only explains a colour.
 */
const SVG = 'http://www.w3.org/2000/svg';

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/* A step of 1, 2 or 5 times a power of ten (of two times a power of 1024 for bytes) that makes at most
 * so many parts. */
function stepOf(span, most, unit) {
  const least = span / most;
  if (unit === 'bytes') {
    return 2 ** Math.ceil(Math.log2(least));
  }
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least * 0.9999);
}

const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

function timeTicks(view, most) {
  const span = view.to - view.from;
  const least = span / most / 1e6;
  const step = (least < 1 ? stepOf(span / 1e6, most) : TIME_STEPS_S.find((s) => s >= least) || 86400) * 1e6;
  const digits = step >= 1e6 ? 0 : Math.ceil(-Math.log10(step / 1e6) - 1e-9);
  const ticks = [];
  for (let i = Math.ceil(view.from / step); i * step <= view.to; i++) {
    ticks.push({t: i * step, text: showTime(i * step, digits)});
  }
  return ticks;
}

const MARKS_MAX = 24;
const MARGIN = {left: 62, right: 10, top: 8, bottom: 22};

class Panel {
  constructor(spec) {
    this.spec = spec;
    this.values = new Map();
    this.legend = element('ul', {class: 'legend'}, ...[...spec.series].map((series) => {
      const item = element('li', {}, this.swatch(series), series.label);
      if (series.at) {
        this.values.set(series, element('span', {class: 'value'}, '–'));
        item.append(this.values.get(series));
      }
      return item;
    }));
    this.svg = svg('svg', {height: spec.height, role: 'img', 'aria-label': `${spec.title}, over time`});
    this.plot = element('div', {class: 'plot'}, this.svg);
    const title = element('h2', {}, spec.title);
    this.root = element('section', {class: 'card'}, title, this.legend, this.plot);
    this.cursor = svg('g', {'pointer-events': 'none'});
  }

  swatch(series) {
    const shape = series.style === 'area' ? svg('rect', {width: 16, height: 12, fill: 'currentColor'})
      : svg('path', {d: 'M0 6H16', class: `line ${series.style}`, stroke: 'currentColor'});
    return svg('svg', {width: 16, height: 12, class: series.colour, 'aria-hidden': 'true'}, shape);
  }

  get width() {
    return Math.max(40, this.size - MARGIN.left - MARGIN.right);
  }

  get height() {
    return this.spec.height - MARGIN.top - MARGIN.bottom;
  }

  x(t) {
    return MARGIN.left + this.width * (t - this.view.from) / (this.view.to - this.view.from);
  }

  y(value) {
    const share = this.spec.log
      ? Math.log(Math.max(value, this.low) / this.low) / Math.log(this.high / this.low)
      : value / this.high;
    return MARGIN.top + this.height * (1 - share);
  }

  /* The time under a point of the page. */
  timeAt(clientX) {
    const left = this.plot.getBoundingClientRect().left + MARGIN.left;
    const share = Math.min(1, Math.max(0, (clientX - left) / this.width));
    return this.view.from + share * (this.view.to - this.view.from);
  }

  /* Sets low and high, the values at the axis's ends. */
  chooseRange(drawn) {
    let peak = 0;
    let least = Infinity;
    const sums = [];
    for (const {series, points} of drawn) {
      points.y.forEach((value, i) => {
        if (value === null) {
          return;
        }
        if (series.style === 'area') {
          sums[i] = (sums[i] || 0) + value;
        }
        peak = Math.max(peak, series.style === 'area' ? sums[i] : value);
        least = value > 0 ? Math.min(least, value) : least;
      });
    }
    if (this.spec.log) {
      this.low = Number.isFinite(least) ? 10 ** Math.floor(Math.log10(least)) : 1e3;
      this.high = 10 ** Math.ceil(Math.log10(Math.max(peak, 2 * this.low)));
    } else {
      this.low = 0;
      this.high = this.spec.top || peak * 1.06 || 1;
    }
  }

  draw(view) {
    this.view = view;
    this.size = this.plot.clientWidth;
    const drawn = this.spec.series.filter((series) => series.data)
      .map((series) => ({series, points: series.data(view)}));
    this.chooseRange(drawn);
    const id = `clip-${this.spec.id}`;
    const clip = svg('clipPath', {id}, svg('rect', {
      x: MARGIN.left, y: MARGIN.top - 3, width: this.width, height: this.height + 4,
    }));
    const shapes = svg('g', {'clip-path': `url(#${id})`}, ...this.areas(drawn), ...this.lines(drawn),
      ...this.waits());
    this.svg.replaceChildren(clip, ...this.axes(), shapes, ...this.marks(), this.cursor);
  }

  axes() {
    const made = [];
    const bottom = MARGIN.top + this.height;
    for (const tick of timeTicks(this.view, this.width / 90)) {
      const x = Math.round(this.x(tick.t)) + 0.5;
      made.push(svg('path', {d: `M${x} ${MARGIN.top}V${bottom}`, class: 'grid'}),
        svg('text', {x, y: bottom + 16, 'text-anchor': 'middle'}, tick.text));
    }
    for (const value of this.valueTicks()) {
      const y = Math.round(this.y(value)) + 0.5;
      made.push(svg('path', {d: `M${MARGIN.left} ${y}H${MARGIN.left + this.width}`, class: 'grid'}),
        svg('text', {x: MARGIN.left - 7, y: y + 4, 'text-anchor': 'end'},
          show(this.spec.unit, value).replace(' /s', '')));
    }
    made.push(svg('path', {
      d: `M${MARGIN.left + 0.5} ${MARGIN.top}V${bottom + 0.5}H${MARGIN.left + this.width}`,
      fill: 'none', class: 'axis',
    }));
    return made;
  }

  valueTicks() {
    const ticks = [];
    if (this.spec.log) {
      const every = Math.ceil(Math.log10(this.high / this.low) / (this.height / 24));
      for (let value = this.low; value <= this.high * 1.0001; value *= 10 ** every) {
        ticks.push(value);
      }
      return ticks;
    }
    const step = stepOf(this.high, Math.max(2, this.height / 34), this.spec.unit);
    for (let i = 0; i * step <= this.high * 1.0001; i++) {
      ticks.push(i * step);
    }
    return ticks;
  }

  areas(drawn) {
    let base = null;
    return drawn.filter(({series}) => series.style === 'area').map(({series, points}) => {
      const below = base || points.y.map(() => 0);
      base = points.y.map((value, i) => below[i] + value);
      const at = (level, i) => `${this.x(points.t[i]).toFixed(1)} ${this.y(level[i]).toFixed(1)}`;
      const up = points.t.map((_, i) => at(base, i));
      const down = points.t.map((_, i) => at(below, i)).reverse();
      return svg('path', {
        d: `M${up.concat(down).join('L')}Z`, class: `area ${series.colour}`, fill: 'currentColor',
      });
    });
  }

  lines(drawn) {
    return drawn.filter(({series}) => series.style !== 'area').map(({series, points}) => {
      let d = '';
      let pen = 'M';
      points.t.forEach((t, i) => {
        if (points.y[i] === null) {
          pen = 'M';
        } else {
          d += `${pen}${this.x(t).toFixed(1)} ${this.y(points.y[i]).toFixed(1)}`;
          pen = 'L';
        }
      });
      return svg('path', {d, class: `line ${series.style} ${series.colour}`, stroke: 'currentColor'});
    });
  }

  /* Shades the stretches in which the guest waited for memory. */
  waits() {
    return waits.filter(({from, to}) => to >= this.view.from && from <= this.view.to)
      .map(({from, to}) => svg('rect', {
        x: this.x(from).toFixed(1), y: MARGIN.top, width: Math.max(1, this.x(to) - this.x(from)).toFixed(1),
        height: this.height, class: 'wait',
      }));
  }

  /* Very many would hide what they mark: then the lane above has them alone. */
  marks() {
    const inView = groups.filter(({t}) => t >= this.view.from && t <= this.view.to);
    return (inView.length > MARKS_MAX ? [] : inView)
      .map((group) => svg('path', {
        d: `M${this.x(group.t).toFixed(1)} ${MARGIN.top}V${MARGIN.top + this.height}`, class: 'mark',
      }));
  }

  /* Shows the values at a sample. */
  point(t, i) {
    const x = this.x(t);
    const visible = t >= this.view.from && t <= this.view.to;
    this.cursor.replaceChildren(...(visible
      ? [svg('path', {d: `M${x.toFixed(1)} ${MARGIN.top}V${MARGIN.top + this.height}`, class: 'cursor'})]
      : []));
    let sum = 0;
    for (const series of this.values.keys()) {
      const value = series.at(i);
      sum = series.style === 'area' ? sum + value : sum;
      this.values.get(series).textContent = show(this.spec.unit, value);
      if (visible && value !== null && (series.style !== 'area' || value > 0)) {
        this.cursor.append(svg('circle', {
          cx: x.toFixed(1), cy: this.y(series.style === 'area' ? sum : value).toFixed(1), r: 3.5,
          class: `dot ${series.colour}`, fill: 'currentColor',
        }));
      }
    }
  }

  /* Shades what is being chosen between two times, or nothing. */
  select(from, to) {
    if (this.selection) {
      this.selection.remove();
      this.selection = null;
    }
    if (from !== undefined) {
      const [a, b] = [this.x(from), this.x(to)].sort((p, q) => p - q);
      this.selection = svg('rect', {x: a, y: MARGIN.top, width: b - a, height: this.height, class: 'selection'});
      this.svg.append(this.selection);
    }
  }
}

/* The events' names above the charts, in rows in which they have room. */
const LANE_ROWS = 4;
const LANE_ROW = 16; /* pixels */

class EventLane extends Panel {
  constructor() {
    super({id: 'events', title: 'Events', unit: 'number', series: [], height: LANE_ROW});
    this.legend.remove();
    this.svg.setAttribute('aria-hidden', 'true'); /* the list says it */
  }

  draw(view) {
    this.view = view;
    this.size = this.plot.clientWidth;
    const seen = ({t}) => t >= view.from && t <= view.to;
    const labels = groups.filter(seen).map((group) => {
      const text = group.words + (group.events.length > 1 ? ` ×${group.events.length}` : '');
      return {x: this.x(group.t), text: svg('text', {class: 'mark-label'}, text)};
    });
    this.svg.replaceChildren(...labels.map(({text}) => text));
    const rows = this.place(labels);
    this.bottom = rows * LANE_ROW + 10;
    this.svg.setAttribute('height', this.bottom + 2);
    for (const {x, row} of labels.filter((label) => label.row >= 0)) {
      this.svg.append(svg('path', {d: `M${x.toFixed(1)} ${3 + LANE_ROW * row}V${this.bottom}`, class: 'mark'}));
    }
    for (const event of data.events.filter(seen)) {
      this.svg.append(svg('path', {d: `M${this.x(event.t).toFixed(1)} ${this.bottom - 6}v6`, class: 'tick'}));
    }
    this.svg.append(svg('path', {
      d: `M${MARGIN.left} ${this.bottom + 0.5}H${MARGIN.left + this.width}`, class: 'axis',
    }), this.cursor);
  }

  /* Gives each label the first row in which it has room, or -1; returns how many rows that takes. */
  place(labels) {
    const ends = new Array(LANE_ROWS).fill(0);
    for (const label of labels) {
      const width = label.text.getComputedTextLength();
      const left = label.x + 4 + width > MARGIN.left + this.width + MARGIN.right;
      const from = left ? label.x - 4 - width : label.x + 4;
      label.row = ends.findIndex((limit) => from >= limit);
      if (label.row < 0) {
        label.text.remove();
      } else {
        ends[label.row] = from + width + 8;
        label.text.setAttribute('x', from.toFixed(1));
        label.text.setAttribute('y', 12 + LANE_ROW * label.row);
      }
    }
    return Math.max(0, ...labels.map(({row}) => row + 1));
  }

  select() {
    /* The charts show what is being chosen. */
  }

  point(t) {
    const visible = t >= this.view.from && t <= this.view.to;
    const x = this.x(t).toFixed(1);
    this.cursor.replaceChildren(...(visible
      ? [svg('path', {d: `M${x} 0V${this.bottom}`, class: 'cursor'})] : []));
  }
}
