// The newest studies, and one study by series with its pictures and videos, straight from DICOMweb.
const ROOT = new URL('/dicom-web', location.href).href;
const PAGE = { studies: 50, series: 100, instances: 24 };
const VIDEO = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.77\.1\.[124]\.1$/; // SOP classes: endoscopic, microscopic, photographic
const REASONS = { 0x0111: 'something else is stored under its UID', 0xC122: 'its transfer syntax is not supported',
  0xA700: 'it is too large, or there is no room for it just now', 0x0122: 'it is an index of files (DICOMDIR), no instance', 0xC000: 'it cannot be read as DICOM' };
const $ = (id) => document.getElementById(id);
let shown = 0; // which view is the latest: an answer that comes late changes nothing

const value = (item, tag) => item[tag]?.Value?.[0] ?? '';
const date = (text) => text.replace(/^(\d{4})(\d\d)(\d\d)$/, '$1-$2-$3');
const plural = (count, word) => `${count} ${word}${Number(count) === 1 ? '' : 's'}`;

// Doe^Jane^A^Dr^PhD becomes: Doe, Dr Jane A, PhD.
function name(item) {
  const groups = value(item, '00100010');
  const text = groups.Alphabetic || groups.Ideographic || groups.Phonetic || '';
  const [family, given, middle, prefix, suffix] = text.split('^').map((part) => part.trim());
  return [family, [prefix, given, middle].filter(Boolean).join(' '), suffix].filter(Boolean).join(', ') || 'No name';
}

function say(text, isError = false) {
  $('message').textContent = text;
  $('message').className = isError ? 'error' : '';
}

// Everything shown goes through textContent: what is stored comes from strangers.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function problem(answer) {
  const document = await answer.json().catch(() => ({}));
  return document.detail || `The server answered ${answer.status} ${answer.statusText}`;
}

async function found(path) {
  const answer = await fetch(ROOT + path, { headers: { Accept: 'application/dicom+json' } });
  if (!answer.ok) throw new Error(await problem(answer));
  return answer.status === 204 ? [] : answer.json();
}

// Calls `add` with page after page, the next whenever the button is pressed.
async function paged(path, size, total, add) {
  let count = 0;
  const button = element('button', { className: 'more', type: 'button' });
  const next = async () => {
    const items = await found(`${path}limit=${size}&offset=${count}`);
    count += items.length;
    await add(items);
    button.textContent = total ? `Show more (${count} of ${total})` : 'Show more';
    button.hidden = items.length < size || count === Number(total);
  };
  button.onclick = () => next().catch((error) => say(error.message, true));
  await next();
  return button;
}

async function studies() {
  const body = element('tbody');
  const more = await paged('/studies?includefield=StudyDescription&', PAGE.studies, '',
    (items) => body.append(...items.map(row)));
  if (!body.rows.length) {
    const empty = $('no-studies').content.cloneNode(true);
    empty.querySelector('pre').textContent =
      `curl -H 'Content-Type: application/dicom' --data-binary @FILE.dcm ${ROOT}/studies`;
    return [empty];
  }
  const titles = ['Patient', 'Patient ID', 'Date', 'Study', 'Modality', 'Instances'];
  const head = element('tr', {}, ...titles.map((title) => element('th', { scope: 'col', textContent: title })));
  return [element('h2', { textContent: 'Newest studies' }), element('table', {}, element('thead', {}, head), body), more];
}

function row(study) {
  const address = `#studies/${value(study, '0020000D')}`;
  const count = value(study, '00201208');
  const cells = [['id', value(study, '00100020')], ['date', date(value(study, '00080020'))],
    ['study', value(study, '00081030')], ['modality', (study['00080061']?.Value ?? []).join(' ')]];
  const made = element('tr', {}, element('td', {}, element('a', { href: address, textContent: name(study) })),
    ...cells.map(([kind, text]) => element('td', { className: text === '' ? 'none' : kind, textContent: text || '–' })),
    element('td', { className: 'number' }, `${count} `, element('span', { textContent: count === 1 ? 'instance' : 'instances' })));
  made.onclick = (event) => { if (!event.target.closest('a') && !String(getSelection())) location.hash = address; };
  return made;
}

async function study(uid) {
  const here = `/studies/${encodeURIComponent(uid)}`;
  const [known] = await found(`/studies?StudyInstanceUID=${encodeURIComponent(uid)}&includefield=StudyDescription`);
  if (!known) throw new Error('There is no such study here.');
  const facts = [value(known, '00100020'), date(value(known, '00080020')), value(known, '00081030'),
    `${value(known, '00201206')} series`, plural(value(known, '00201208'), 'instance')];
  const sections = element('div');
  const more = await paged(`${here}/series?includefield=SeriesDescription&`, PAGE.series, value(known, '00201206'),
    async (items) => { for (const item of items) sections.append(await series(here, item)); });
  return [element('a', { className: 'back', href: '#', textContent: '← All studies' }),
    element('h2', { textContent: name(known) }),
    element('p', { className: 'facts', textContent: facts.filter(Boolean).join(' · ') }), sections, more];
}

async function series(study, item) {
  const here = `${study}/series/${value(item, '0020000E')}`;
  const number = value(item, '00200011');
  const title = value(item, '0008103E') || (number === '' ? 'Series' : `Series ${number}`);
  const head = element('h3', {}, element('span', { className: 'badge', textContent: value(item, '00080060') || '?' }), title,
    element('small', { textContent: plural(value(item, '00201209'), 'instance') }));
  const grid = element('div', { className: 'grid' });
  const more = await paged(`${here}/instances?`, PAGE.instances, value(item, '00201209'),
    (items) => grid.append(...items.map((one) => tile(`${ROOT}${here}/instances/${value(one, '00080018')}`, one))));
  return element('section', {}, head, grid, more);
}

function tile(url, item) {
  const frames = Number(value(item, '00280008') || 1);
  const isVideo = VIDEO.test(value(item, '00080016'));
  const text = [`Instance ${value(item, '00200013') || '–'}`, frames > 1 ? `${frames} frames` : ''].filter(Boolean).join(' · ');
  const links = element('span', { className: 'links' }, link(`${url}/metadata?accept=application/json`, 'Metadata'),
    link(`${url}?accept=application/dicom`, 'DICOM'));
  const content = isVideo ? video(url, text) : value(item, '00280010') ? picture(url, text) : nothing('No picture');
  return element('figure', { className: isVideo ? 'film' : '' }, content,
    element('figcaption', {}, element('span', { textContent: text }), links));
}

const link = (href, textContent) => element('a', { href, textContent, target: '_blank', rel: 'noopener' });
const nothing = (textContent) => element('p', { className: 'nothing', textContent });
const pause = (answer) => 1000 * (Number(answer.headers.get('Retry-After')) || 2); // a proxy's 503 may not say, or say a date
const nobody = () => new Response(null, { status: 503 }); // a server that starts anew

function picture(url, alt) {
  const image = element('img', { loading: 'lazy', alt, src: `${url}/thumbnail` });
  const whole = element('a', { href: `${url}/rendered`, target: '_blank', rel: 'noopener' }, image);
  const view = shown;
  let wasThere = false;
  image.onerror = async () => { // as with a player
    if (view !== shown) return;
    const answer = await fetch(image.src).catch(nobody);
    if (answer.status !== 503 && (!answer.ok || wasThere)) {
      whole.replaceWith(nothing('No picture can be made of this instance'));
      return;
    }
    wasThere = answer.ok;
    setTimeout(() => { image.src = image.src; }, answer.ok ? 0 : pause(answer));
  };
  return whole;
}

function video(url, label) {
  const player = element('video',
    { controls: true, playsInline: true, preload: 'metadata', poster: `${url}/thumbnail?viewport=640,480`, src: `${url}/rendered` });
  player.setAttribute('aria-label', label);
  const view = shown;
  let wasThere = false;
  // A player does not tell why: ask again what it was answered. It may fail before its view is whole and shown,
  // and what was being made then may be there now.
  player.onerror = async () => {
    if (view !== shown) return;
    const answer = await fetch(`${url}/rendered`, { headers: { Accept: 'video/mp4', Range: 'bytes=0-0' } }).catch(nobody);
    if (answer.status === 503 || (answer.ok && !wasThere)) {
      wasThere = answer.ok;
      setTimeout(() => player.load(), answer.ok ? 0 : pause(answer));
      return;
    }
    const type = answer.headers.get('Content-Type');
    player.replaceWith(nothing(answer.ok ? `This browser does not play ${type}` : await problem(answer)));
  };
  return player;
}

async function show() {
  const view = ++shown;
  const uid = location.hash.match(/^#studies\/(.+)$/)?.[1];
  say('');
  $('main').setAttribute('aria-busy', 'true');
  try {
    const content = await (uid ? study(uid) : studies());
    if (view !== shown) return;
    $('main').replaceChildren(...content);
    document.title = `${$('main').querySelector('h2').textContent} – reelweb`;
  } catch (error) {
    if (view !== shown) return;
    $('main').replaceChildren(...(uid ? [element('a', { className: 'back', href: '#', textContent: '← All studies' })] : []));
    say(error.message, true);
  }
  $('main').removeAttribute('aria-busy');
}

// One request for each file, so that each has its own answer; the browser streams it from the disk.
async function keep(files) {
  const failures = [];
  const stored = new Set();
  for (const [number, file] of files.entries()) {
    say(`Storing ${number + 1} of ${files.length}: ${file.name}`);
    try {
      const answer = await fetch(`${ROOT}/studies`, { method: 'POST', headers: { 'Content-Type': 'application/dicom' }, body: file });
      if (answer.ok) stored.add(value(await answer.json(), '00081190').split('/').pop());
      else failures.push(`${file.name}: ${await reason(answer)}`);
    } catch (error) {
      failures.push(`${file.name}: ${error.message}`);
    }
  }
  await show();
  say([`${files.length - failures.length} of ${plural(files.length, 'file')} stored.`, ...failures.slice(0, 5)].join('\n'), failures.length > 0);
  if (stored.size === 1) $('message').append(' ', element('a', { href: `#studies/${[...stored][0]}`, textContent: 'Open the study' }));
}

async function reason(answer) {
  const told = await answer.clone().json().catch(() => ({}));
  const [failed] = told['00081198']?.Value ?? told['0008119A']?.Value ?? [];
  const code = failed && value(failed, '00081197');
  return REASONS[code] ?? (code ? `refused with code ${code.toString(16).toUpperCase()}` : problem(answer));
}

$('root').textContent = ROOT;
$('files').addEventListener('change', async (event) => {
  await keep([...event.target.files]);
  event.target.value = ''; // so that the same file can be chosen again
});
addEventListener('hashchange', async () => { await show(); scrollTo(0, 0); $('main').focus(); });
for (const kind of ['dragover', 'dragleave', 'drop']) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && event.dataTransfer.files.length) keep([...event.dataTransfer.files]);
  });
}
show();
