//! English words for questions that are asked anew: function words, which say nothing of a topic, and synonyms of common words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Words without a topic of their own.
pub static FUNCTION_WORDS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| FUNCTION.split_whitespace().collect());

/// Synonyms by word, in the same form (number, tense).
pub static SYNONYMS: LazyLock<BTreeMap<&str, String>> = LazyLock::new(|| {
    let pairs = PAIRS.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(word, synonym)| (word, synonym.replace('_', " "))).collect()
});

const FUNCTION: &str = "\
    a about after again all also am an and any are around as at be because been before being between both but by can could
    did do does doing during each either else ever every few for from had has have he her hers him his how i if in into is
    it its itself just like many may me might more most much must my no nor not now of off on once one only onto or other
    our out over own same she should since so some such than that the their them then there these they this those through
    to together too under until up upon us was we were what when where whether which while who whom whose why will with
    within without would you your s themselves himself herself very among actually";

/// `word=synonym`; an underscore stands for a blank.
const PAIRS: &str = "\
    abandon=leave abbots=priors abbreviation=acronym academic=scholarly access=entry account=report actor=performer
    actress=performer adopted=embraced adviser=counsellor affluent=wealthy airport=airfield album=record alumni=graduates
    ancestor=forebear animated=cartoon announce=proclaim area=zone army=troops arrested=detained associated=linked
    athletic=sporting average=mean aviator=pilot band=group banish=expel bankrupt=insolvent barracks=quarters based=grounded
    basketball=hoops battle=fight best=finest biopic=life_story book=volume border=frontier born=birthed broadcast=aired
    building=edifice bulk=mass bureaucracy=officialdom buried=interred busiest=liveliest business=commerce cabinet=ministry
    campaign=drive campus=grounds capital=chief_town cause=reason census=head_count century=age character=figure
    chemist=druggist church=parish cities=towns city=metropolis civil=non-military clash=fight classical=traditional
    club=association coached=trained coalition=alliance colonize=settle color=hue comedian=comic commercial=mercantile
    common=shared company=firm complete=finish composer=songwriter composition=make-up conceived=devised conference=meeting
    conferences=meetings conflict=strife congregation=parishioners connected=joined construction=assembly container=vessel
    contributor=donor copies=duplicates country=nation county=shire court=tribunal covered=spanned cranium=skull
    current=present currently=presently cycle=loop death=demise depend=rely designed=planned designers=planners
    destroyed=ruined developed=devised developments=advances dialect=idiom dictates=determines died=perished
    difference=distinction directed=helmed director=maker disobedience=defiance distributed=spread district=quarter
    division=section doctor=physician doctorate=PhD documentaries=reportages draft=sketch drama=play drinks=beverages
    dynasty=ruling_house early=initial effect=impact energy=power engine=motor enjoy=like established=begun eventual=final
    exceed=surpass explorer=traveller extinction=vanishing facility=installation faith=belief fantasy=make-believe
    father=parent federal=national female=woman film=movie fire=blaze first=earliest flights=trips focused=centred
    force=power forces=armies forecast=prediction form=shape formation=shaping formed=shaped former=erstwhile
    found=discovered founded=begun free=gratis funfair=carnival general=commander generally=usually government=state
    graduating=leaving graph=diagram gravity=weight guide=handbook headquartered=seated heavier=weightier height=stature
    high=tall honorary=titular household=family households=families idealized=glorified imperialism=colonialism
    important=weighty importation=shipment included=numbered includes=contains income=earnings increased=grew
    inhabited=peopled introduce=present introduced=presented introduction=preface invented=devised island=isle item=article
    judge=magistrate key=crucial killed=slain king=monarch know=realise known=famed land=ground landmark=monument
    largest=biggest launched=started lectured=taught led=headed legions=cohorts line=row literature=letters live=dwell
    liveable=habitable located=situated logo=emblem lower=lesser machine=apparatus magazine=periodical maintains=keeps
    major=main materials=stuff matter=substance meaning=sense member=participant men=males mentorship=guidance minor=small
    mission=task monks=friars move=relocate movement=drive musician=instrumentalist name=title network=broadcaster
    networks=broadcasters new=recent novel=book novelist=author number=amount numerals=figures offer=provide office=bureau
    operated=run orbit=circuit outbreak=eruption owns=possesses park=garden part=piece party=faction people=persons
    performance=show period=era pharmacists=druggists physicians=doctors physicist=scientist pianist=musician
    plague=pestilence planet=globe plants=vegetation plated=coated play=drama played=performed player=sportsman plays=dramas
    pledge=vow plot=scheme policies=rules politician=statesman population=inhabitants precisely=exactly prescribe=order
    president=leader press=squeeze pressure=force primary=main private=independent produced=generated product=article
    production=output program=scheme programming=schedule project=undertaking projects=undertakings provide=supply
    public=open published=issued ranked=rated reached=attained realize=grasp receive=get reconstructions=restorations
    record=disc recorded=taped references=citations released=issued renewed=resumed represent=depict required=needed
    research=investigation residents=inhabitants revenue=income revised=amended revolt=uprising rights=entitlements
    rigidity=stiffness river=stream rock=stone role=function romance=love_story school=academy schools=academies
    sculpture=statue second=next series=sequence serve=work served=supplied services=offerings settlement=colony shot=filmed
    show=programme siege=blockade singer=vocalist social=communal sold=marketed song=tune special=particular speech=address
    split=divided stage=step stages=steps stake=share starred=acted start=begin station=stop stayed=remained steam=vapour
    story=tale stretch=extend structures=frameworks student=pupil students=pupils suburb=outskirt support=backing
    surrounded=encircled surveying=measuring system=arrangement tailor=clothier taxes=levies teacher=instructor
    teachers=instructors team=squad television=TV temperatures=warmth term=word theory=hypothesis top=highest
    town=municipality traces=signs troops=soldiers two=a_pair_of undergraduate=bachelor understands=grasps
    universities=colleges university=college used=employed version=edition won=gained work=labour worked=toiled
    working=operating works=pieces writer=author";
