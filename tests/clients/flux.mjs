// A complete client of the API in JavaScript, in which bugs can be planted: what the kit's rules are proven on.
// node flux.mjs [--worker] [--variant NAME] [--bug NAME]   reads a call as a line of JSON, prints {"output"} or {"error"}
import { createInterface } from 'node:readline'

const VARIANTS = {
  plain: 'polls by the built path',
  wait: 'lets the create wait, and polls if that was not enough',
  'no-retry': 'raises at the first trouble',
  confirm: 'reads once more after the end',
  slow: 'waits 100 ms between polls',
  download: 'fetches the picture, without the token',
}
const BUGS = {
  'typo in the path': ['MC101'],
  'text/plain': ['MC101'],
  'input under another name': ['MC101'],
  'drops falsy inputs': ['MC102'],
  'numbers as text': ['MC101', 'MC102'],
  'truncates the prompt': ['MC102'],
  'ASCII only': ['MC102'],
  'Token instead of Bearer': ['MC103'],
  'no token on polls': ['MC103'],
  'creates again on any network error': ['MC201'],
  'creates again on 5xx': ['MC201'],
  'creates again when a poll fails': ['MC201'],
  'processing is the end': ['MC301'],
  'failed is success': ['MC301'],
  'canceled returns null': ['MC301'],
  'swallows broken answers': ['MC301'],
  'never polls': ['MC301'],
  'returns urls.get': ['MC302'],
  'first character of the output': ['MC302'],
  'does not know aborted': ['MC303', 'MC304'],
  'does not know canceled': ['MC303', 'MC304'],
  'polls on after success': ['MC303'],
  'splits logs': ['MC305'],
  'reads metrics': ['MC305'],
  'strict about fields': ['MC305'],
  'milliseconds by a pattern': ['MC305'],
  'only 200': ['MC305'],
  'ignores Retry-After': ['MC401'],
  'a date is NaN': ['MC401'],
  'throws at an unreadable Retry-After': ['MC401'],
  'polls an outage for ever': ['MC402'],
  'creates for ever': ['MC402'],
  'repeats 402': ['MC403'],
  'repeats 422': ['MC403'],
  'polls on after 401': ['MC403'],
  'no pause': ['MC404'],
  'no retry of polls': ['MC405'],
  'token in the query': ['MC501'],
  'token to the file host': ['MC501'],
  'token in the body': ['MC501'],
  'token on standard error': ['MC501'],
  'follows urls.get': ['MC501', 'MC502'],
}
const KNOWN = ['id', 'model', 'version', 'input', 'logs', 'output', 'data_removed', 'error', 'status', 'source',
  'deadline', 'deployment', 'created_at', 'started_at', 'completed_at', 'urls', 'metrics']

const argument = (name) => process.argv[process.argv.indexOf(name) + 1] ?? ''
const bug = process.argv.includes('--bug') ? argument('--bug') : ''
const variant = process.argv.includes('--variant') ? argument('--variant') : bug.includes('file host') ? 'download' : 'plain'
const retries = (count) => (variant === 'no-retry' ? 0 : count)
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

// Milliseconds to wait by a Retry-After in seconds or as a date; undefined if it says nothing that can be read.
function retryAfter(response) {
  const said = response.headers.get('retry-after')
  if (!said) return undefined
  if (/^\d+$/.test(said)) return Number(said) * 1000
  if (bug === 'a date is NaN') return Number(said) * 1000
  const date = Date.parse(said)
  if (Number.isNaN(date) && bug === 'throws at an unreadable Retry-After') return BigInt(said)
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now())
}

async function pause(response, attempt) {
  if (bug === 'ignores Retry-After') return
  const asked = response && retryAfter(response)
  const ms = asked ?? Math.min(200, 10 * 2 ** attempt)
  if (ms > 5000) throw new Error('it would take too long')
  await sleep(ms)
}

async function request(call, method, url, body, more = {}) {
  const headers = { Authorization: `Bearer ${call.token}`, ...more }
  if (bug === 'Token instead of Bearer') headers.Authorization = `Token ${call.token}`
  if (bug === 'no token on polls' && method === 'GET') delete headers.Authorization
  if (body) headers['Content-Type'] = bug === 'text/plain' ? 'text/plain' : 'application/json'
  const address = bug === 'token in the query' ? `${url}?token=${call.token}` : url
  return fetch(address, { method, headers, body, signal: AbortSignal.timeout(5000) })
}

function bodyOf(call) {
  let input = { ...call.input }
  if (bug === 'drops falsy inputs') input = Object.fromEntries(Object.entries(input).filter(([, value]) => value))
  if (bug === 'numbers as text') {
    const text = (value) => (typeof value === 'number' ? String(value) : value)
    input = Object.fromEntries(Object.entries(input).map(([name, value]) => [name, text(value)]))
  }
  if (bug === 'truncates the prompt') input.prompt = input.prompt.slice(0, 200)
  if (bug === 'ASCII only') input.prompt = input.prompt.replace(/[^\x00-\x7f]/g, '?')
  if (bug === 'input under another name') return JSON.stringify({ inputs: input })
  return JSON.stringify(bug === 'token in the body' ? { input, auth: call.token } : { input })
}

function read(prediction) {
  if (bug === 'splits logs') prediction.logs.split('\n')
  if (bug === 'reads metrics' && prediction.status === 'succeeded') prediction.metrics.predict_time.toFixed()
  if (bug === 'strict about fields' && Object.keys(prediction).some((name) => !KNOWN.includes(name))) {
    throw new Error('unknown field')
  }
  if (bug === 'milliseconds by a pattern' && !/\.\d{3}Z$/.test(prediction.created_at)) throw new Error('bad date')
  return prediction
}

async function refused(response) {
  return new Error(`status ${response.status}: ${(await response.text().catch(() => '')).slice(0, 200)}`)
}

async function create(call) {
  const noun = bug === 'typo in the path' ? 'model' : 'models'
  const url = `${call.base_url}/v1/${noun}/${call.model}/predictions`
  for (let attempt = 0; ; attempt++) {
    let response
    try {
      response = await request(call, 'POST', url, bodyOf(call), variant === 'wait' ? { Prefer: 'wait' } : {})
    } catch (error) {
      if (bug === 'creates again on any network error' && attempt < 2) continue
      throw error
    }
    if (bug === 'only 200' ? response.status === 200 : response.ok) return read(await response.json())
    let again = response.status === 429 || (response.status === 503 && response.headers.has('retry-after'))
    if (bug === 'creates again on 5xx') again ||= response.status >= 500
    if (bug === 'repeats 402') again ||= response.status === 402
    if (bug === 'repeats 422') again ||= response.status === 422
    const endless = bug === 'creates for ever' && response.status >= 429
    if (!endless && (!again || attempt >= retries(3))) throw await refused(response)
    await response.text().catch(() => '')
    await pause(response, endless ? 0 : attempt)
  }
}

async function poll(call, prediction) {
  let url = `${call.base_url}/v1/predictions/${prediction.id}`
  if (bug === 'follows urls.get') url = prediction.urls.get
  const most = bug === 'no retry of polls' ? 0 : retries(5)
  for (let attempt = 0; ; attempt++) {
    let response
    try {
      response = await request(call, 'GET', url)
      if (response.ok) return read(JSON.parse(await response.text()))
    } catch (error) {
      if (error instanceof TypeError && /undefined|null/.test(error.message)) throw error // our own, not the network's
      if (bug === 'swallows broken answers') return { ...prediction, status: 'succeeded' }
      if (bug === 'creates again when a poll fails' && attempt >= most) return create(call)
      if (attempt >= most || /unknown field|bad date/.test(error.message)) throw error
      await pause(undefined, attempt)
      continue
    }
    const endless = (bug === 'polls an outage for ever' && response.status >= 500) ||
      (bug === 'polls on after 401' && response.status === 401)
    if (!endless && (![429, 500, 502, 503, 504].includes(response.status) || attempt >= most)) throw await refused(response)
    await response.text().catch(() => '')
    await pause(response, endless ? 0 : attempt)
  }
}

async function follow(call, first) {
  const ends = new Set(['succeeded', 'failed', 'canceled', 'aborted'])
  if (bug === 'does not know aborted') ends.delete('aborted')
  if (bug === 'does not know canceled') ends.delete('canceled')
  if (bug === 'processing is the end') ends.add('processing')
  if (bug === 'never polls' && !ends.has(first.status)) throw new Error('no picture')
  let prediction = first
  for (let looks = 0; !ends.has(prediction.status); looks++) {
    if (bug !== 'no pause') await sleep(variant === 'slow' ? 100 : looks < 4 ? 4 : 30)
    prediction = await poll(call, prediction)
  }
  const more = bug === 'polls on after success' ? 3 : variant === 'confirm' ? 1 : 0
  for (let looks = 0; looks < more; looks++) prediction = await poll(call, prediction)
  return prediction
}

async function download(call, url) {
  const headers = bug === 'token to the file host' ? { Authorization: `Bearer ${call.token}` } : {}
  const response = await fetch(url, { headers, signal: AbortSignal.timeout(5000) })
  if (response.status !== 200) throw await refused(response)
  const data = Buffer.from(await response.arrayBuffer())
  const jpeg = data[0] === 0xff && data.at(-1) === 0xd9
  if (!jpeg && data.subarray(-8, -4).toString('latin1') !== 'IEND') throw new Error('the picture is broken')
  return `data:image/${jpeg ? 'jpeg' : 'png'};base64,${data.toString('base64')}`
}

async function run(call) {
  const { status, output, error, urls } = await follow(call, await create(call))
  if (bug === 'canceled returns null' && status === 'canceled') return null
  if (bug === 'failed is success' && status === 'failed') return output
  if (bug === 'processing is the end' && status === 'processing') return output
  if (bug === 'swallows broken answers' && status === 'succeeded') return output
  if (status !== 'succeeded' || !output) throw new Error(`prediction ${status}: ${error}`)
  if (bug === 'returns urls.get') return urls.get
  if (bug === 'first character of the output') return output[0]
  const url = Array.isArray(output) ? output[0] : output
  return variant === 'download' ? download(call, url) : url
}

async function answer(line) {
  const call = JSON.parse(line)
  try {
    return { output: await run(call) }
  } catch (error) {
    if (bug === 'token on standard error') console.error(`failed with token ${call.token}`)
    return { error: String(error?.message ?? error) }
  }
}

if (process.argv.includes('--list')) {
  const bugs = Object.fromEntries(Object.entries(BUGS).map(([name, rules]) => [name, { rules }]))
  console.log(JSON.stringify({ variants: VARIANTS, bugs }))
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await answer(line)))
    if (!process.argv.includes('--worker')) process.exit(0)
  }
}
