// The newest studies, and one study with its thumbnails and videos, straight from DICOMweb.
const root = new URL('/dicom-web', location.href).href;
const $ = (id) => document.getElementById(id);
const VIDEO = /^1\.2\.840\.10008\.1\.2\.4\.10[2-8](\.1)?$/;

const value = (item, tag) => item[tag]?.Value?.[0] ?? '';
const name = (item) => value(item, '00100010').Alphabetic ?? '';
const say = (text) => { $('message').textContent = text; };

// Everything shown goes through textContent: what is stored comes from strangers.
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function found(path) {
  const answer = await fetch(root + path, { headers: { Accept: 'application/dicom+json' } });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.status === 204 ? [] : answer.json();
}

async function showStudies() {
  const studies = await found('/studies?limit=50&includefield=StudyDescription');
  if (!studies.length) {
    $('main').replaceChildren($('no-studies').content.cloneNode(true));
    $('curl').textContent = `curl -H 'Content-Type: application/dicom' --data-binary @FILE.dcm ${root}/studies`;
    return;
  }
  const head = element('tr', {}, ...['Patient', 'ID', 'Date', 'Study', 'Modalities', 'Instances'].map(
    (title) => element('th', { textContent: title })));
  const rows = studies.map((study) => {
    const address = `#studies/${value(study, '0020000D')}`;
    const cells = [value(study, '00100020'), value(study, '00080020'), value(study, '00081030'),
      (study['00080061']?.Value ?? []).join(' '), value(study, '00201208')];
    const link = element('a', { href: address, textContent: name(study) || '(no name)' });
    return element('tr', { onclick: () => { location.hash = address; } },
      element('td', {}, link), ...cells.map((cell) => element('td', { textContent: cell })));
  });
  $('main').replaceChildren(element('table', {}, element('thead', {}, head), element('tbody', {}, ...rows)));
}

function tile(instance) {
  const series = `${root}/studies/${value(instance, '0020000D')}/series/${value(instance, '0020000E')}`;
  const url = `${series}/instances/${value(instance, '00080018')}`;
  const film = VIDEO.test(value(instance, '00083002'));
  const picture = film
    ? element('video', { controls: true, preload: 'none', poster: `${url}/thumbnail`, src: `${url}/rendered` })
    : element('img', { loading: 'lazy', alt: '', src: `${url}/thumbnail`, onerror() { this.style.visibility = 'hidden'; } });
  const text = [value(instance, '00080060'), `instance ${value(instance, '00200013') || '–'}`,
    value(instance, '00280008') > 1 ? `${value(instance, '00280008')} frames` : ''].filter(Boolean).join(' · ');
  const caption = element('figcaption', { textContent: `${text} · ` },
    element('a', { href: `${url}/rendered`, textContent: 'rendered', target: '_blank', rel: 'noopener' }), ' ',
    element('a', { href: `${url}?accept=application/dicom`, textContent: 'DICOM' }));
  return element('figure', { className: film ? 'film' : '' }, picture, caption);
}

async function showStudy(uid) {
  const fields = 'includefield=Modality,NumberOfFrames,00083002';
  const instances = await found(`/studies/${encodeURIComponent(uid)}/instances?limit=200&${fields}`);
  $('main').replaceChildren(element('div', { className: 'grid' }, ...instances.map(tile)));
  if (instances.length === 200) say('The first 200 instances of this study.');
}

async function show() {
  say('');
  const uid = location.hash.match(/^#studies\/(.+)$/)?.[1];
  try { await (uid ? showStudy(uid) : showStudies()); } catch (error) { say(error.message); }
}

async function keep(files) {
  let stored = 0;
  for (const file of files) {
    say(`Storing ${stored + 1} of ${files.length} …`);
    const answer = await fetch(`${root}/studies`,
      { method: 'POST', headers: { 'Content-Type': 'application/dicom' }, body: file });
    if (answer.ok) stored += 1;
  }
  await show();
  say(`${stored} of ${files.length} stored.`);
}

$('root').textContent = root;
$('files').addEventListener('change', (event) => keep([...event.target.files]));
addEventListener('hashchange', show);
for (const kind of ['dragover', 'dragleave', 'drop']) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle('over', kind === 'dragover');
    if (kind === 'drop') keep([...event.dataTransfer.files]);
  });
}
show();
