// The page of one database. It is built from the parts in page.js.

function change(now, before, unit) {
  if (now === null || now === undefined || before === null || before === undefined) return null;
  const difference = now - before;
  if (difference === 0) return element('span', {}, `unchanged in ${unit}`);
  const sign = difference > 0 ? '▲' : '▼';
  return element('span', {}, element('span', { class: difference > 0 ? 'up' : 'down' }, `${sign} ${count(Math.abs(difference))}`), ` in ${unit}`);
}

// Against the snapshot of a week ago, or else yesterday against the day a week earlier in the history.
function weekly(key, now) {
  const snapshot = first('week_ago');
  if (key in snapshot && now !== undefined) return change(now, snapshot[key], '7 days');
  const days = history();
  return days.length < 9 ? null : change(days[days.length - 2][key], days[days.length - 9][key], '7 days to yesterday');
}

function tiles() {
  const active = first('active');
  const members = 'mau' in first('members') ? first('members').mau : active.mau;
  const limit = first('settings').limit;
  const days = history();
  const last = days[days.length - 2] || {};
  const limited = limit !== null && limit !== undefined;
  const list = element('dl', { class: 'tiles' });
  const meter = limited && limit > 0 && members !== undefined ? element('meter', {
    min: 0, max: limit, high: 0.9 * limit, low: 0.9 * limit, optimum: 0, value: members, 'aria-label': `${members} of ${limit} users`,
  }) : null;
  list.append(
    tile('mau', 'Monthly active users', count(members), meter,
      limited && members !== undefined ? `of ${count(limit)}: ${limit > 0 ? `${(100 * members / limit).toFixed(1)} %, ` : ''}${count(Math.max(0, limit - members))} free` : 'no limit', weekly('mau', members)),
    tile('wau', 'Weekly active users', count(active.wau), weekly('wau', active.wau)),
    tile('dau', 'Daily active users', count(active.dau), weekly('dau', active.dau)),
    tile('stickiness', 'Daily / monthly', last.stickiness === null || last.stickiness === undefined ? '–' : percent(last.stickiness), last.day ? `on ${last.day}` : null),
    tile('new', 'New in 30 days', days.length ? count(rows('series').slice(-30).reduce((sum, row) => sum + row.new_users, 0)) : '–'),
    tile('full', 'Limit reached', first('forecast').reaches || '–', forecastShort()));
  return list;
}

function forecastShort() {
  const forecast = first('forecast');
  if (forecast.reaches) return forecast.days_left <= 0 ? 'if the trend goes on' : `in ${count(forecast.days_left)} days, if the trend goes on`;
  return forecast.target_mau === null || forecast.target_mau === undefined ? 'no limit is set' : 'no date: see the forecast';
}

function seriesPanel() {
  const days = history();
  const problem = problemOf('series');
  if (problem || !days.length) return panel('series', 'Active users', null, { wide: true }, problem || nothing());
  const labels = days.map(row => row.day);
  const limit = first('settings').limit;
  const last = days[days.length - 1];
  const summary = `Daily, weekly and monthly active users from ${labels[0]} to ${last.day}. On the last day ${last.dau}, ${last.wau} and ${last.mau}.`;
  return panel('series', 'Active users',
    'Distinct users on each day, and in the 7 and the 30 days that end with it. The last day is not over, so its part is dashed.', { wide: true },
    chart('series', summary, () => {
      const segment = dashedEnd(days.length);
      const sets = [line('Monthly', 'mau', days.map(row => row.mau), { segment }), line('Weekly', 'wau', days.map(row => row.wau), { segment }),
        line('Daily', 'dau', days.map(row => row.dau), { segment, borderWidth: 1.5 })];
      if (limit) sets.push(line('Limit', 'limit', days.map(() => limit), { borderDash: [8, 4], borderWidth: 1.5 }));
      return { type: 'line', data: { labels, datasets: sets }, options: { ...base, plugins: { legend: legend() }, scales: { x: dayAxis(labels), y: axis('users', { axis: { beginAtZero: true, suggestedMax: limit ? 1.05 * limit : undefined } }) } } };
    }),
    asTable('series', 'Active users', [['Day', row => row.day], ['Daily', row => row.dau, true], ['Weekly', row => row.wau, true], ['Monthly', row => row.mau, true], ['New', row => row.new_users, true]], [...days].reverse()));
}

function stickinessPanel() {
  const days = history().slice(0, -1);
  const problem = problemOf('series');
  if (problem || !days.length) return panel('stickiness', 'Stickiness', null, {}, problem || nothing());
  const labels = days.map(row => row.day);
  const share = days.map(row => row.stickiness === null ? null : 100 * row.stickiness);
  const mean = share.map((_, i) => i < 6 ? null : share.slice(i - 6, i + 1).reduce((sum, value) => sum + (value || 0), 0) / 7);
  return panel('stickiness', 'Stickiness', 'Which part of the users of 30 days comes on a day. 50 %: the average user comes every other day.', {},
    chart('stickiness', `Daily by monthly users in percent from ${labels[0]} to ${labels[labels.length - 1]}; last ${percent(days[days.length - 1].stickiness || 0)}.`, () => ({
      type: 'line',
      data: { labels, datasets: [line('Mean of 7 days', 'mau', mean), line('Day', 'muted', share, { borderWidth: 0.75 })] },
      options: { ...base, plugins: { legend: legend() }, scales: { x: dayAxis(labels), y: axis('% of monthly users', { axis: { beginAtZero: true } }) } },
    })),
    asTable('stickiness', 'Stickiness', [['Day', row => row.day], ['Daily / monthly', row => row.stickiness === null ? null : percent(row.stickiness), true]], [...days].reverse()));
}

function growthPanel() {
  const windows = rows('growth').filter(row => row.mau > 0 || row.mau_before > 0);
  const problem = problemOf('growth');
  if (problem || !windows.length) return panel('growth', 'Growth', null, {}, problem || nothing());
  const last = windows[windows.length - 1];
  const bar = (label, name, data) => ({ label, data, backgroundColor: color(name), stack: 'users', maxBarThickness: 48 });
  return panel('growth', 'Growth', 'Each 30 days against the 30 days before: who is new, who came back, and who left.', {},
    chart('growth', `Users who are new, came back and left in each of ${windows.length} times 30 days; in the last ${last.new_users}, ${last.resurrected} and ${last.churned}.`, () => ({
      type: 'bar',
      data: {
        labels: windows.map(row => row.day),
        datasets: [bar('New', 'mau', windows.map(row => row.new_users)), bar('Came back', 'resurrected', windows.map(row => row.resurrected)), bar('Left', 'churned', windows.map(row => -row.churned))],
      },
      options: { ...base, plugins: { legend: legend() }, scales: { x: axis('last UTC day of 30', { axis: { stacked: true }, ticks: { maxRotation: 0, autoSkipPadding: 12 } }), y: axis('users', { axis: { stacked: true } }) } },
    })),
    asTable('growth', 'Growth', [['30 days to', row => row.day], ['Before', row => row.mau_before, true], ['New', row => row.new_users, true], ['Came back', row => row.resurrected, true], ['Left', row => row.churned, true], ['Monthly', row => row.mau, true], ['Quick ratio', row => row.quick_ratio === null ? null : row.quick_ratio.toFixed(2), true]], [...windows].reverse()));
}

function heatMap(name, unit) {
  const cohorts = new Map();
  for (const row of rows(name)) {
    if (!cohorts.has(row.cohort_start)) cohorts.set(row.cohort_start, { start: row.cohort_start, size: row.size, cells: [] });
    cohorts.get(row.cohort_start).cells[row.period] = row;
  }
  const shown = [...cohorts.values()].filter(cohort => cohort.size > 0);
  if (!shown.length) return nothing();
  const periods = Math.max(...shown.map(cohort => cohort.cells.filter(cell => cell && cell.share !== null).length), 1);
  const body = shown.map(cohort => element('tr', {},
    element('th', { scope: 'row' }, unit === 'month' ? cohort.start.slice(0, 7) : cohort.start), element('td', { class: 'number' }, count(cohort.size)),
    ...Array.from({ length: periods }, (_, period) => {
      const cell = cohort.cells[period];
      if (!cell || cell.share === null) return element('td', { class: 'number' });
      const made = element('td', { class: 'number cell', title: `${count(cell.users)} of ${count(cohort.size)} users` }, `${Math.round(100 * cell.share)} %`);
      made.style.setProperty('--share', (0.04 + 0.96 * cell.share).toFixed(3));
      return made;
    })));
  const head = element('tr', {}, element('th', { scope: 'col' }, unit === 'month' ? 'Month' : 'Week of'), element('th', { scope: 'col', class: 'number' }, 'Users'),
    ...Array.from({ length: periods }, (_, period) => element('th', { scope: 'col', class: 'number' }, String(period))));
  const caption = `Active users by ${unit} after registration, in percent`;
  return element('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    element('table', { class: 'heat', 'aria-label': caption }, element('thead', {}, head), element('tbody', {}, ...body)));
}

let retentionUnit = null;
function retentionPanel() {
  const problem = problemOf('retention_months', 'retention_weeks');
  if (problem) return panel('retention', 'Retention', null, { wide: true }, problem);
  if (!retentionUnit) retentionUnit = history().length < 120 ? 'week' : 'month';
  const place = element('div', {});
  const show = () => place.replaceChildren(heatMap(retentionUnit === 'month' ? 'retention_months' : 'retention_weeks', retentionUnit));
  const choice = (unit, label) => {
    const input = element('input', { type: 'radio', name: 'retention', value: unit, checked: unit === retentionUnit });
    input.addEventListener('change', () => { retentionUnit = unit; show(); });
    return element('label', {}, input, ` ${label}`);
  };
  show();
  return panel('retention', 'Retention', 'Of the users who registered in a month or week, how many were active in that one (0) and in each later one that is over.', { wide: true },
    element('fieldset', {}, element('legend', {}, 'By'), choice('month', 'months'), choice('week', 'weeks')), place);
}

function daysActivePanel() {
  const data = rows('days_active');
  const problem = problemOf('days_active');
  const total = data.reduce((sum, row) => sum + row.users, 0);
  if (problem || !total) return panel('days', 'Days active', null, {}, problem || nothing());
  return panel('days', 'Days active', 'On how many of the last 30 days users came.', {},
    chart('days', `Users by the number of their active days of the last 30; ${total} users in all.`, () => ({
      type: 'bar',
      data: { labels: data.map(row => row.days), datasets: [{ label: 'Users', data: data.map(row => row.users), backgroundColor: color('mau') }] },
      options: { ...base, plugins: { legend: { display: false }, tooltip: { callbacks: { title: items => `${items[0].label} days` } } }, scales: { x: axis('active days of 30', { ticks: { maxRotation: 0 }, axis: { grid: { display: false } } }), y: axis('users', { axis: { beginAtZero: true } }) } },
    })),
    asTable('days', 'Days active', [['Days', row => String(row.days)], ['Users', row => row.users, true]], data));
}

function listPanel(id, title, note, name, label) {
  const data = rows(name);
  const problem = problemOf(name);
  const most = Math.max(...data.map(row => row.users), 1);
  return panel(id, title, note, {}, problem || (data.length ? table(title, [
    [label, row => row.name === null ? `${count(row.names)} others` : row.name || '(none)', false, row => row.users / most], ['Users', row => row.users, true]], data) : nothing()));
}

function clientsPanel() {
  const data = rows('clients').filter(row => row.name === 'all' || row.mau > 0);
  const problem = problemOf('clients');
  const most = Math.max(...data.map(row => row.name === 'all' ? 0 : row.mau), 1);
  return panel('clients', 'By client', 'Of the days up to today. A user of two clients counts in both. Retained: seen twice within 60 days, more than 30 days apart (r30v2).', {},
    problem || (data.some(row => row.mau > 0) ? table('By client', [['Client', row => row.name, false, row => row.name === 'all' ? 0 : row.mau / most], ['Monthly', row => row.mau, true], ['Weekly', row => row.wau, true],
      ['Daily', row => row.dau, true], ['Retained', row => row.r30v2, true]], data) : nothing()));
}

function billsPanel() {
  const data = rows('bills').filter(row => row.users > 0 || row.highest_mau > 0);
  const problem = problemOf('bills');
  return panel('bills', 'Bills', 'Users of each calendar month; "over 2 days": active on more than two of its days. A month that is partial is not over, or the history begins in it.', { wide: true },
    problem || (data.length ? table('Bills of the last twelve months', [['Month', row => row.month + (row.partial ? ' (partial)' : '')], ['Service', row => row.service], ['Users', row => row.users, true],
      ['Over 2 days', row => row.users_over, true], ['Highest monthly', row => row.highest_mau, true], ['Mean monthly', row => row.mean_mau === null ? null : number.format(row.mean_mau), true]], data, { keep: true }) : nothing()));
}

function facts(list) {
  return element('table', {}, element('tbody', {}, ...list.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
    element('tr', {}, element('th', { scope: 'row' }, name), element('td', {}, typeof value === 'number' ? count(value) : value)))));
}

function forecastPanel() {
  const forecast = first('forecast');
  const problem = problemOf('forecast');
  if (problem || !('assumption' in forecast)) return panel('forecast', 'Forecast', null, { wide: true }, problem || nothing());
  return panel('forecast', 'Forecast', null, { wide: true }, facts([
    ['Assumption', forecast.assumption],
    ['Users', forecast.mau === null ? null : `${count(forecast.mau)} on ${forecast.day}`],
    ['Trend', forecast.per_day === null ? null : `${forecast.per_day > 0 ? '+' : ''}${forecast.per_day} users a day`],
    ['The line explains', forecast.r_squared === null ? null : `${percent(forecast.r_squared)} of the variation`],
    ['Target', forecast.target_mau === null ? 'none: no limit is set' : `${count(forecast.target_mau)} users`],
    ['Reached on', forecast.reaches ? `${forecast.reaches}, in ${count(forecast.days_left)} days` : 'no date'],
  ]));
}

function healthPanel() {
  const state = first('state');
  const problem = problemOf('health', 'state', 'tasks');
  return panel('state', 'Health', null, { wide: true }, problem, facts([
    ['Health', first('health').health ? `${first('health').health}: ${first('health').reason}` : null],
    ['Source', state.source || 'none: the homeserver calls mau'],
    ['Read', state.lag ? `${state.lag} ago; new activity is found ${state.finds_new_by || '–'}` : null],
    ['Skipped rows', state.skipped_rows || null], ['Differences', state.reconcile_differences],
    ['Seats', state.seats], ['Cache', state.seen_cache],
    ['Worker', state.worker ? `${state.worker}, last tick ${state.last_tick ? `${state.last_tick} UTC` : '–'}` : null],
  ]), rows('tasks').length ? table('Tasks', [['Task', row => row.task], ['Last run (UTC)', row => row.last_run], ['Took (ms)', row => row.milliseconds, true], ['Rows', row => row.rows, true],
    ['Failures in a row', row => row.failures_in_a_row, true], ['Next run (UTC)', row => row.next_run]], rows('tasks'), { keep: true }) : null);
}

const nothing = () => element('p', { class: 'note' }, history().length ? 'Not yet: no day or period is over.' : 'No activity yet.');

function drawDatabase() {
  const title = figures.name || first('settings').server_name || figures.database;
  document.title = `${title}: active users`;
  document.getElementById('title').textContent = title;
  document.getElementById('as-of').textContent = `Active users as of ${figures.at.slice(0, 19)} UTC`;
  const health = first('health');
  document.getElementById('health').replaceChildren(...(health.health ? [healthWord(health.health), health.reason] : []));
  const panels = element('div', { class: 'panels' }, seriesPanel(), growthPanel(), stickinessPanel(), retentionPanel(), daysActivePanel(), clientsPanel(),
    listPanel('services', 'By service', 'Monthly active users: native, or of a bridge.', 'services', 'Service'),
    listPanel('hosts', 'By host', 'Monthly active users of each virtual host.', 'hosts', 'Host'), billsPanel(), forecastPanel(), healthPanel());
  main.replaceChildren(tiles(), panels);
}
