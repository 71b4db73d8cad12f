// Draws the figures that are in the page. Chart.js 3 or 4 is there as Chart. All text is set as text, never as HTML.
// page.html puts page_database.js, page_fleet.js and this file into one function. This one has the parts of a page, and starts.

const root = document.documentElement;
root.dataset.errors = '0';
const countError = () => { root.dataset.errors = String(Number(root.dataset.errors) + 1); };
window.addEventListener('error', countError);
window.addEventListener('unhandledrejection', countError);

const main = document.getElementById('main');
let figures = JSON.parse(document.getElementById('figures').textContent);
let charts = [];
const number = new Intl.NumberFormat('en');
const percent = share => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const count = n => n === null || n === undefined ? '–' : number.format(n);
const color = name => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const monthName = day => new Date(`${day.slice(0, 7)}-01T00:00:00Z`).toLocaleString('en', { month: 'short', year: 'numeric', timeZone: 'UTC' });

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

const rows = name => Array.isArray(figures[name]) ? figures[name] : [];
const first = name => rows(name)[0] || {};

// The days since the history begins: those before have no users.
function history() {
  const all = rows('series');
  const begin = all.findIndex(row => row.dau > 0);
  return begin < 0 ? [] : all.slice(begin);
}

// --- Parts of a panel ---

function problemOf(...names) {
  for (const name of names) {
    const found = figures[name];
    if (found && found.problem) {
      return element('p', { class: 'problem' }, found.problem + (found.hint ? ` – ${found.hint}` : ''));
    }
  }
  return null;
}

function panel(id, title, note, options, ...children) {
  return element('section', { class: options.wide ? 'panel wide' : 'panel', id, 'aria-labelledby': `${id}-title` },
    element('h2', { id: `${id}-title` }, title), note ? element('p', { class: 'note' }, note) : null, ...children);
}

// columns: [heading, row => text or number, is a number?]
function table(caption, columns, data, options = {}) {
  const head = element('tr', {}, ...columns.map(([title, , isNumber]) => element('th', { scope: 'col', class: isNumber ? 'number' : null }, title)));
  const body = data.map(row => element('tr', {}, ...columns.map(([, value, isNumber, share], index) => {
    const shown = value(row);
    const cell = element(index === 0 ? 'th' : 'td',
      { scope: index === 0 ? 'row' : null, class: isNumber ? 'number' : share ? 'bar' : options.keep ? 'keep' : null },
      typeof shown === 'number' ? count(shown) : shown === null || shown === undefined ? '–' : shown);
    if (share) cell.style.setProperty('--share', `${100 * share(row)}%`);
    return cell;
  })));
  const parts = [element('thead', {}, head), element('tbody', {}, ...body)];
  if (options.foot) parts.push(element('tfoot', {}, options.foot));
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    element('table', { 'aria-label': caption }, ...parts));
}

function asTable(id, caption, columns, data) {
  return element('details', { id: `${id}-table` }, element('summary', {}, `${caption} as a table`), table(caption, columns, data, { keep: true }));
}

// A place for a chart, which is drawn when it is on the page.
const pending = [];
function chart(id, summary, config) {
  const canvas = element('canvas', { role: 'img', 'aria-label': summary, id: `${id}-chart` }, summary);
  pending.push(() => {
    const drawn = new Chart(canvas, config());
    canvas.dataset.axes = ['x', 'y'].map(axis => drawn.options.scales[axis].title.text).join(' | ');
    charts.push(drawn);
  });
  return element('div', { class: 'chart' }, canvas);
}

function axis(title, more = {}) {
  return {
    title: { display: true, text: title, color: color('muted') },
    ticks: { color: color('muted'), precision: 0, ...more.ticks },
    grid: { color: color('line') },
    ...more.axis,
  };
}

const legend = () => ({ position: 'top', align: 'start', labels: { color: color('text'), boxWidth: 12, boxHeight: 12 } });
const base = { animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: 'index', intersect: false } };

// Days along the axis: the first days of months where there are enough of them, else some days.
function dayAxis(days) {
  const months = days.filter(day => day.endsWith('-01')).length;
  // A few days stand apart from the edges.
  const options = { ticks: { maxRotation: 0, autoSkipPadding: 12 }, axis: { offset: days.length < 15 } };
  if (months >= 3) {
    options.axis.afterBuildTicks = scale => { scale.ticks = scale.ticks.filter(tick => days[tick.value].endsWith('-01')); };
    options.ticks.callback = value => monthName(days[value]);
  }
  return axis('UTC day', options);
}

function line(label, name, data, more = {}) {
  return {
    label, data, borderColor: color(name), backgroundColor: color(name), borderWidth: 2, pointRadius: data.length > 1 ? 0 : 4, pointHitRadius: 8, tension: 0,
    ...more,
  };
}

// The last day is not over: its part of a line is dashed.
const dashedEnd = length => ({ borderDash: context => context.p1DataIndex === length - 1 ? [3, 4] : undefined });

function tile(id, title, value, ...more) {
  return element('div', { class: /^\d{4}-/.test(value) ? 'tile date' : 'tile', id: `tile-${id}` }, element('dt', {}, title), element('dd', {},
    element('div', { class: 'value' }, value), ...more.filter(Boolean).map(part => element('div', { class: 'more' }, part))));
}

function healthWord(word) {
  const kind = word === 'ok' || word === 'idle' || word === 'standby' ? 'ok' : word === 'failing' || word === 'unreachable' ? 'bad' : 'warn';
  return element('span', { class: `word ${kind}` }, word);
}

// --- The page ---

function draw() {
  const open = [...main.querySelectorAll('details[open]')].map(found => found.id);
  charts.forEach(drawn => drawn.destroy());
  charts = [];
  if (figures.targets) drawFleet(); else drawDatabase();
  pending.splice(0).forEach(drawOne => drawOne());
  for (const id of open) document.getElementById(id)?.setAttribute('open', '');
  document.getElementById('back').hidden = !figures.is_of_several;
  document.getElementById('program').textContent = `mau ${figures.program}`;
  root.dataset.drawn = String(charts.length);
}

if (window.Chart) Chart.defaults.font.family = 'system-ui, sans-serif';
draw();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
// On paper the colours are those for light; the canvases have to be drawn anew.
matchMedia('print').addEventListener('change', draw);

const live = document.body.dataset.live;
if (live) {
  setInterval(async () => {
    // Do not redraw while the page is hidden or an element on it has the focus.
    if (document.hidden || main.contains(document.activeElement) && document.activeElement !== main) return;
    try {
      const answer = await fetch(live, { cache: 'no-store' });
      if (!answer.ok) return;
      figures = await answer.json();
      draw();
    } catch {
      // The server is away; the page keeps the figures and their time.
    }
  }, 60000);
}
