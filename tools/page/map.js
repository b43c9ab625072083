/* SPDX-License-Identifier: MIT */
/*
 * The map of the guest's memory: at a time, as a grid of cells; and over time, as a strip in which x is
 * the time and y the address.
 *
 * Letters are those of query-map: P PoD, H a superpage, R single pages, O given up, G given up with its
 * pages in place; a to i split with 0 to 8 eighths populated and the rest PoD, q to y the rest given up.
 */
const KINDS = [
  {name: 'populated, superpages', colour: 'populated'},
  {name: 'populated, single pages', colour: 'single'},
  {name: 'split', colour: 'single'},
  {name: 'PoD: no memory yet', colour: 'pod'},
  {name: 'given up', colour: 'out'},
  {name: 'given up, pages in place', colour: 'given'},
];
const WHOLE = {H: 0, R: 1, P: 3, O: 4, G: 5};

/* What a letter says: {kind (an index of KINDS), eighths, rest}. */
function cellOf(letter) {
  if (letter in WHOLE) {
    return {kind: WHOLE[letter], eighths: letter === 'H' || letter === 'R' ? 8 : 0, rest: 3};
  }
  const up = letter >= 'q';
  return {kind: 2, eighths: letter.charCodeAt(0) - (up ? 113 : 97), rest: up ? 4 : 3};
}

/* The colours of all letters in the scheme that is on, as [red, green, blue]. */
function paletteNow() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => {
    const hex = parseInt(style.getPropertyValue(`--${name}`).trim().slice(1), 16);
    return [hex >> 16, (hex >> 8) & 255, hex & 255];
  };
  const palette = {};
  for (const letter of 'HRPOGabcdefghiqrstuvwxy') {
    const cell = cellOf(letter);
    const [full, rest] = [rgb(KINDS[cell.kind].colour), rgb(KINDS[cell.rest].colour)];
    palette[letter] = cell.kind === 2
      ? full.map((part, i) => Math.round((part * cell.eighths + rest[i] * (8 - cell.eighths)) / 8)) : full;
  }
  return palette;
}

const mapTimes = data.maps.map((map) => map.t);
const mapLetters = data.maps.map(lettersOf);
const cellBytes = data.cell_pages * data.page_bytes;

/* The index of the map that held at a time, or -1 if none is known. */
function mapAt(t) {
  return mapTimes.length > 0 && t >= mapTimes[0] ? indexAt(mapTimes, t) : -1;
}

/* What is in a cell, in words. */
function cellWords(letter, i) {
  const cell = cellOf(letter);
  const from = i * cellBytes;
  const what = cell.kind === 2
    ? `split: ${cell.eighths === 0 ? 'nothing' : `about ${cell.eighths} eighths`} populated, the rest mostly ` +
      `${cell.rest === 4 ? 'given up' : 'PoD'}`
    : KINDS[cell.kind].name;
  return `${show('bytes', from)} to ${show('bytes', Math.min(from + cellBytes, columns.max[count - 1]))}: ${what}`;
}

class MapGrid {
  constructor() {
    this.canvas = document.getElementById('map');
    this.info = document.getElementById('cell');
    /* About as wide as high. */
    this.across = Math.min(data.cells, 2 ** Math.ceil(Math.log2(Math.sqrt(data.cells))));
    this.down = Math.ceil(data.cells / this.across);
    this.counts = KINDS.map((kind) => {
      const value = element('span', {class: 'value'});
      const swatch = svg('svg', {width: 16, height: 12, class: kind.colour, 'aria-hidden': 'true'},
        kind.name === 'split'
          ? svg('g', {}, svg('path', {d: 'M0 0H16L0 12Z', fill: 'currentColor'}),
            svg('path', {d: 'M16 0V12H0Z', fill: 'currentColor', class: 'pod'}))
          : svg('rect', {width: 16, height: 12, fill: 'currentColor'}));
      document.getElementById('map-legend').append(element('li', {}, swatch, kind.name, value));
      return value;
    });
    document.getElementById('map-note').textContent = `Each cell is ${show('bytes', cellBytes)} of the guest's ` +
      `memory; addresses go from left to right, ${show('bytes', this.across * cellBytes)} a row.`;
    this.canvas.addEventListener('pointermove', (event) => this.explain(event));
    this.canvas.addEventListener('pointerdown', (event) => this.explain(event));
    this.canvas.addEventListener('pointerleave', () => this.explainNothing());
    this.explainNothing();
  }

  explainNothing() {
    this.info.textContent = 'Point at a cell to read what is in it.';
  }

  explain(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = Math.floor((event.clientX - box.left) / box.width * this.across);
    const y = Math.floor((event.clientY - box.top) / box.height * this.down);
    const i = y * this.across + x;
    if (this.letters && x >= 0 && x < this.across && i >= 0 && i < this.letters.length) {
      this.info.textContent = cellWords(this.letters[i], i);
    }
  }

  draw(t) {
    const index = mapAt(t);
    this.letters = index < 0 ? null : mapLetters[index];
    const counts = KINDS.map(() => 0);
    const cell = Math.max(2, Math.floor(this.canvas.clientWidth * (window.devicePixelRatio || 1) / this.across));
    const gap = cell >= 6 ? 1 : 0;
    this.canvas.width = cell * this.across;
    this.canvas.height = cell * this.down;
    const context = this.canvas.getContext('2d');
    for (const [i, letter] of [...(this.letters || '')].entries()) {
      counts[cellOf(letter).kind]++;
      context.fillStyle = `rgb(${this.palette[letter].join(',')})`;
      context.fillRect((i % this.across) * cell, Math.floor(i / this.across) * cell, cell - gap, cell - gap);
    }
    counts.forEach((number, kind) => {
      this.counts[kind].textContent = this.letters ? format.number(number) : '–';
    });
    this.canvas.dataset.map = index;
    this.canvas.setAttribute('aria-label', this.letters
      ? `Map of the guest's memory at ${showTime(t)}: ` +
        counts.map((number, kind) => `${number} cells ${KINDS[kind].name}`).join(', ')
      : 'No map is known of that time');
  }
}

/* The strip, as a panel whose chart is a canvas. */
class MapStrip extends Panel {
  constructor(spec) {
    super(spec);
    this.canvas = element('canvas', {'aria-hidden': 'true'});
    this.plot.prepend(this.canvas);
    this.svg.style.position = 'relative';
  }

  axes() {
    /* The strip covers the grid. */
    return super.axes().filter((part) => part.getAttribute('class') !== 'grid');
  }

  draw(view) {
    super.draw(view);
    const [width, height] = [Math.round(this.width), Math.min(Math.round(this.height) * 2, data.cells)];
    Object.assign(this.canvas.style, {
      left: `${MARGIN.left}px`, top: `${MARGIN.top}px`, width: `${this.width}px`, height: `${this.height}px`,
    });
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext('2d');
    const image = context.createImageData(width, height);
    for (let x = 0; x < width; x++) {
      const index = mapAt(view.from + (view.to - view.from) * (x + 0.5) / width);
      for (let y = 0; index >= 0 && y < height; y++) {
        this.mean(mapLetters[index], y / height, (y + 1) / height, image.data, (x + width * (height - 1 - y)) * 4);
      }
    }
    context.putImageData(image, 0, 0);
  }

  /* Writes the average colour of a share of the cells as a pixel. */
  mean(letters, from, to, pixels, at) {
    const first = Math.floor(from * letters.length);
    const last = Math.max(first + 1, Math.floor(to * letters.length));
    let [red, green, blue] = [0, 0, 0];
    for (let i = first; i < last; i++) {
      const colour = this.palette[letters[i]];
      red += colour[0];
      green += colour[1];
      blue += colour[2];
    }
    pixels[at] = red / (last - first);
    pixels[at + 1] = green / (last - first);
    pixels[at + 2] = blue / (last - first);
    pixels[at + 3] = 255;
  }
}
