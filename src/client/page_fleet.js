// The page of several databases. It is built from the parts in page.js.

function drawFleet() {
  const targets = figures.targets;
  const sum = key => targets.reduce((total, target) => typeof target[key] === 'number' ? (total || 0) + target[key] : total, null);
  document.title = `${targets.length} databases: active users`;
  document.getElementById('title').textContent = `${targets.length} databases`;
  document.getElementById('as-of').textContent = `Active users as of ${figures.at.slice(0, 19)} UTC`;
  const down = targets.filter(target => !target.up).length;
  document.getElementById('health').replaceChildren(down ? healthWord('unreachable') : healthWord('ok'), down ? `${count(down)} of ${count(targets.length)} databases` : 'every database answers');
  const list = element('dl', { class: 'tiles few' },
    tile('mau', 'Monthly active users', count(sum('mau')), 'a user of two databases counts in both'), tile('wau', 'Weekly active users', count(sum('wau'))),
    tile('dau', 'Daily active users', count(sum('dau'))), tile('databases', 'Databases that answer', `${count(targets.length - down)} of ${count(targets.length)}`));
  const link = row => row.is_listed === false ? row.name : element('a', { href: `database/${encodeURIComponent(row.name)}` }, row.name);
  const foot = element('tr', {}, element('th', { scope: 'row' }, 'Total'), element('td', {}), ...['mau', 'limit', 'wau', 'dau'].map(key => element('td', { class: 'number' }, count(sum(key)))), element('td', {}));
  main.replaceChildren(list, panel('databases', 'Databases', 'Those in trouble first. Weekly and daily users are of the last snapshot.', {}, table('Databases', [['Database', link], ['Health', row => healthWord(row.health)], ['Monthly', row => row.mau, true],
    ['Limit', row => row.limit, true], ['Weekly', row => row.wau, true], ['Daily', row => row.dau, true], ['Reason', row => row.reason]], targets, { foot })));
}
